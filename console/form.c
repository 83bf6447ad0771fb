/*-------------------------------------------------------------------------
 *
 * form.c
 *	  Names and values of a query or of a form, application/x-www-form-urlencoded.
 *
 * A name that comes twice, what is no UTF-8, a zero byte, a broken escape and too
 * many fields make the whole invalid: nothing is guessed.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "form.h"
#include "memory.h"
#include "secret.h"
#include "text.h"

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/*
 * What an encoded piece stands for, for the caller to free; with "plus", a plus
 * stands for a blank.  NULL if it stands for nothing.
 */
char *
form_decode(const char *encoded, size_t length, bool plus)
{
	char	   *text = memory_get(length + 1);
	size_t		n = 0;

	for (size_t i = 0; i < length; i++)
	{
		char		c = encoded[i];

		if (c == '%')
		{
			int			high = length - i > 2 ? hex_digit(encoded[i + 1]) : -1;
			int			low = length - i > 2 ? hex_digit(encoded[i + 2]) : -1;

			if (high < 0 || low < 0)
			{
				free(text);
				return NULL;
			}
			c = (char) (high * 16 + low);
			i += 2;
		}
		else if (c == '+' && plus)
			c = ' ';
		text[n++] = c;
	}
	if (!text_is_utf8(text, n))
	{
		secret_wipe(text);
		free(text);
		return NULL;
	}
	return text;
}

/* One "name=value"; false if it is invalid. */
static bool
parse_field(Form *form, const char *field, size_t length)
{
	const char *equals = memchr(field, '=', length);
	size_t		name_length = equals ? (size_t) (equals - field) : length;
	char	   *name;

	if (form->n >= FORM_FIELDS)
		return false;
	name = form_decode(field, name_length, true);
	if (name == NULL)
		return false;
	if (form_value(form, name) != NULL)
	{
		free(name);
		return false;
	}
	form->names[form->n] = name;
	form->values[form->n] = equals ? form_decode(equals + 1, length - name_length - 1, true)
		: memory_copy("");
	return form->values[form->n++] != NULL;
}

/* Reads the fields.  Whatever it returns, form_free has to be called. */
bool
form_parse(Form *form, const char *encoded, size_t length)
{
	memset(form, 0, sizeof(Form));
	while (length > 0)
	{
		const char *end = memchr(encoded, '&', length);
		size_t		n = end ? (size_t) (end - encoded) : length;

		if (n > 0 && !parse_field(form, encoded, n))
			return false;
		n += end ? 1 : 0;
		encoded += n;
		length -= n;
	}
	return true;
}

/* The values may be secrets: they are wiped. */
void
form_free(Form *form)
{
	for (int i = 0; i < form->n; i++)
	{
		secret_wipe(form->values[i]);
		free(form->names[i]);
		free(form->values[i]);
	}
	form->n = 0;
}

/* The value of that name, or NULL. */
const char *
form_value(const Form *form, const char *name)
{
	for (int i = 0; i < form->n; i++)
	{
		if (strcmp(form->names[i], name) == 0)
			return form->values[i];
	}
	return NULL;
}
