/*-------------------------------------------------------------------------
 *
 * json.c
 *	  JSON that the database has made, read.
 *
 * The pages for readers without script and the metrics are made of the same JSON
 * that scripts get.  It comes from PostgreSQL and so is well formed; what is
 * not is refused all the same, and so is what is nested too deeply.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "memory.h"
#include "text.h"

#define JSON_DEEPEST 64

static Json *parse_value(const char **at, int depth);

static void
skip_blanks(const char **at)
{
	while (**at != '\0' && strchr(" \t\r\n", **at) != NULL)
		(*at)++;
}

/* The value of four hexadecimal digits, or -1. */
static int
parse_hex(const char *at)
{
	int			value = 0;

	for (int i = 0; i < 4; i++)
	{
		const char *digits = "0123456789abcdef";
		const char *found = at[i] ? strchr(digits, at[i] >= 'A' && at[i] <= 'F' ? at[i] + 32 : at[i]) : NULL;

		if (found == NULL)
			return -1;
		value = value * 16 + (int) (found - digits);
	}
	return value;
}

/* Adds a character of Unicode as UTF-8. */
static void
add_character(Text *text, unsigned c)
{
	char		bytes[4];
	int			n = 0;

	if (c < 0x80)
		bytes[n++] = c;
	else if (c < 0x800)
		bytes[n++] = 0xC0 | c >> 6;
	else if (c < 0x10000)
	{
		bytes[n++] = 0xE0 | c >> 12;
		bytes[n++] = 0x80 | (c >> 6 & 0x3F);
	}
	else
	{
		bytes[n++] = 0xF0 | c >> 18;
		bytes[n++] = 0x80 | (c >> 12 & 0x3F);
		bytes[n++] = 0x80 | (c >> 6 & 0x3F);
	}
	if (c >= 0x80)
		bytes[n++] = 0x80 | (c & 0x3F);
	text_add_n(text, bytes, n);
}

/* Adds what stands behind a backslash; false if that is nothing. */
static bool
parse_escape(const char **at, Text *text)
{
	const char *from = "\"\\/bfnrt";
	const char *to = "\"\\/\b\f\n\r\t";
	const char *found;
	int			c;

	if (**at == 'u')
	{
		c = parse_hex(*at + 1);
		if (c <= 0)
			return false;
		*at += 5;
		if (c >= 0xD800 && c < 0xDC00 && (*at)[0] == '\\' && (*at)[1] == 'u')
		{
			int			low = parse_hex(*at + 2);

			if (low < 0xDC00 || low > 0xDFFF)
				return false;
			*at += 6;
			c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
		}
		add_character(text, c);
		return true;
	}
	found = **at ? strchr(from, **at) : NULL;
	if (found == NULL)
		return false;
	text_add_n(text, to + (found - from), 1);
	(*at)++;
	return true;
}

/* The string that begins here, for the caller to free; NULL if there is none. */
static char *
parse_string(const char **at)
{
	Text		text;

	if (**at != '"')
		return NULL;
	(*at)++;
	text_init(&text);
	while (**at != '"')
	{
		size_t		plain = strcspn(*at, "\"\\");

		text_add_n(&text, *at, plain);
		*at += plain;
		if (**at == '"')
			break;
		if (**at == '\0' || ((*at)++, !parse_escape(at, &text)))
		{
			text_free(&text);
			return NULL;
		}
	}
	(*at)++;
	return text.data;
}

/* The elements or members up to the closing bracket; false if they are none. */
static bool
parse_children(const char **at, Json *parent, int depth)
{
	char		end = parent->kind == JSON_ARRAY ? ']' : '}';
	Json	  **place = &parent->child;

	(*at)++;
	skip_blanks(at);
	if (**at == end)
	{
		(*at)++;
		return true;
	}
	for (;;)
	{
		char	   *name = NULL;

		skip_blanks(at);
		if (parent->kind == JSON_OBJECT)
		{
			name = parse_string(at);
			if (name == NULL)
				return false;
			skip_blanks(at);
			if (**at != ':')
			{
				free(name);
				return false;
			}
			(*at)++;
		}
		*place = parse_value(at, depth + 1);
		if (*place == NULL)
		{
			free(name);
			return false;
		}
		(*place)->name = name;
		place = &(*place)->next;
		skip_blanks(at);
		if (**at == end)
		{
			(*at)++;
			return true;
		}
		if (**at != ',')
			return false;
		(*at)++;
	}
}

static Json *
parse_value(const char **at, int depth)
{
	static const struct
	{
		const char *word;
		JsonKind	kind;
	}			words[] = {{"null", JSON_NULL}, {"true", JSON_TRUE}, {"false", JSON_FALSE}};
	Json	   *value;
	size_t		n;

	if (depth > JSON_DEEPEST)
		return NULL;
	skip_blanks(at);
	value = memory_get(sizeof(Json));
	for (size_t i = 0; i < 3; i++)
	{
		n = strlen(words[i].word);
		if (strncmp(*at, words[i].word, n) == 0)
		{
			*at += n;
			value->kind = words[i].kind;
			return value;
		}
	}
	if (**at == '{' || **at == '[')
	{
		value->kind = **at == '{' ? JSON_OBJECT : JSON_ARRAY;
		if (parse_children(at, value, depth))
			return value;
	}
	else if (**at == '"')
	{
		value->kind = JSON_STRING;
		value->text = parse_string(at);
		if (value->text != NULL)
			return value;
	}
	else if ((n = strspn(*at, "+-.0123456789eE")) > 0)
	{
		value->kind = JSON_NUMBER;
		value->text = memory_copy_n(*at, n);
		*at += n;
		return value;
	}
	json_free(value);
	return NULL;
}

/* The value that a text is, for json_free; NULL if it is none. */
Json *
json_parse(const char *text)
{
	Json	   *value = parse_value(&text, 0);

	if (value == NULL)
		return NULL;
	skip_blanks(&text);
	if (*text == '\0')
		return value;
	json_free(value);
	return NULL;
}

void
json_free(Json *value)
{
	while (value != NULL)
	{
		Json	   *next = value->next;

		json_free(value->child);
		free(value->name);
		free(value->text);
		free(value);
		value = next;
	}
}

/* The member of that name, or NULL, also of what is no object. */
const Json *
json_member(const Json *object, const char *name)
{
	if (object == NULL || object->kind != JSON_OBJECT)
		return NULL;
	for (const Json *member = object->child; member != NULL; member = member->next)
	{
		if (strcmp(member->name, name) == 0)
			return member;
	}
	return NULL;
}

/* The string or number of that name, true or false as such, or NULL. */
const char *
json_text(const Json *object, const char *name)
{
	const Json *member = json_member(object, name);

	if (member == NULL)
		return NULL;
	if (member->kind == JSON_TRUE || member->kind == JSON_FALSE)
		return member->kind == JSON_TRUE ? "true" : "false";
	return member->text;
}
