/*-------------------------------------------------------------------------
 *
 * text.c
 *	  A text that grows, and the ways in which a value is quoted in it.
 *
 * Whoever puts a value into JSON, HTML or an address does it with the function
 * for that here, and with no other.
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "text.h"

/* An empty text; its memory is the text's until text_free. */
void
text_init(Text *text)
{
	text->size = 256;
	text->data = memory_get(text->size);
	text->length = 0;
}

void
text_free(Text *text)
{
	free(text->data);
	text->data = NULL;
	text->length = text->size = 0;
}

/* Room for n more bytes and the zero. */
static void
make_room(Text *text, size_t n)
{
	if (text->length + n + 1 <= text->size)
		return;
	while (text->length + n + 1 > text->size)
		text->size *= 2;
	text->data = memory_resize(text->data, text->size);
}

void
text_add_n(Text *text, const char *bytes, size_t n)
{
	make_room(text, n);
	memcpy(text->data + text->length, bytes, n);
	text->length += n;
	text->data[text->length] = '\0';
}

void
text_add(Text *text, const char *string)
{
	text_add_n(text, string, strlen(string));
}

/* Adds what printf would print. */
void
text_format(Text *text, const char *format,...)
{
	va_list		args;
	int			n;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n <= 0)
		return;
	make_room(text, n);
	va_start(args, format);
	vsnprintf(text->data + text->length, n + 1, format, args);
	va_end(args);
	text->length += n;
}

/* Adds a string of JSON, with its quotes; null of NULL.  The string is UTF-8. */
void
text_json(Text *text, const char *string)
{
	if (string == NULL)
	{
		text_add(text, "null");
		return;
	}
	text_add_n(text, "\"", 1);
	for (; *string; string++)
	{
		unsigned char c = *string;

		if (c == '"' || c == '\\')
		{
			char		pair[2] = {'\\', c};

			text_add_n(text, pair, 2);
		}
		else if (c < ' ' || c == 127)
			text_format(text, "\\u%04x", c);
		else
			text_add_n(text, string, 1);
	}
	text_add_n(text, "\"", 1);
}

/* Adds text of HTML that reads as the string, also in a quoted attribute. */
void
text_html(Text *text, const char *string)
{
	for (; string != NULL && *string; string++)
	{
		switch (*string)
		{
			case '&':
				text_add(text, "&amp;");
				break;
			case '<':
				text_add(text, "&lt;");
				break;
			case '>':
				text_add(text, "&gt;");
				break;
			case '"':
				text_add(text, "&quot;");
				break;
			case '\'':
				text_add(text, "&#39;");
				break;
			default:
				text_add_n(text, string, 1);
		}
	}
}

/* Adds the string as one piece of a path or of a query. */
void
text_url(Text *text, const char *string)
{
	for (; string != NULL && *string; string++)
	{
		unsigned char c = *string;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			strchr("-_.~", c) != NULL)
			text_add_n(text, string, 1);
		else
			text_format(text, "%%%02X", c);
	}
}

/* Whether these bytes are UTF-8 as RFC 3629 has it, and none of them is zero. */
bool
text_is_utf8(const char *bytes, size_t n)
{
	const unsigned char *c = (const unsigned char *) bytes;

	for (size_t i = 0; i < n; i++)
	{
		int			more;
		unsigned	low = 0x80,
					high = 0xBF;

		if (c[i] == 0)
			return false;
		if (c[i] < 0x80)
			continue;
		if (c[i] >= 0xC2 && c[i] <= 0xDF)
			more = 1;
		else if (c[i] >= 0xE0 && c[i] <= 0xEF)
			more = 2;
		else if (c[i] >= 0xF0 && c[i] <= 0xF4)
			more = 3;
		else
			return false;
		/* no overlong forms, no surrogates, nothing beyond U+10FFFF */
		if (c[i] == 0xE0)
			low = 0xA0;
		else if (c[i] == 0xED)
			high = 0x9F;
		else if (c[i] == 0xF0)
			low = 0x90;
		else if (c[i] == 0xF4)
			high = 0x8F;
		for (; more > 0; more--)
		{
			if (++i >= n || c[i] < low || c[i] > high)
				return false;
			low = 0x80;
			high = 0xBF;
		}
	}
	return true;
}
