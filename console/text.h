/*-------------------------------------------------------------------------
 *
 * text.h
 *	  A text that grows, and the ways in which a value is quoted in it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_TEXT_H
#define CONSOLE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Text
{
	char	   *data;			/* always ends with a zero; never NULL */
	size_t		length;
	size_t		size;
} Text;

extern void text_init(Text *text);
extern void text_free(Text *text);
extern void text_add_n(Text *text, const char *bytes, size_t n);
extern void text_add(Text *text, const char *string);
extern void text_format(Text *text, const char *format,...) __attribute__((format(printf, 2, 3)));
extern void text_json(Text *text, const char *string);
extern void text_html(Text *text, const char *string);
extern void text_url(Text *text, const char *string);
extern bool text_is_utf8(const char *bytes, size_t n);

#endif							/* CONSOLE_TEXT_H */
