/*-------------------------------------------------------------------------
 *
 * form.h
 *	  Names and values of a query or of a form.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_FORM_H
#define CONSOLE_FORM_H

#include <stdbool.h>
#include <stddef.h>

#define FORM_FIELDS 64

typedef struct Form
{
	int			n;
	char	   *names[FORM_FIELDS];
	char	   *values[FORM_FIELDS];
} Form;

extern bool form_parse(Form *form, const char *encoded, size_t length);
extern void form_free(Form *form);
extern const char *form_value(const Form *form, const char *name);
extern char *form_decode(const char *encoded, size_t length, bool plus);

#endif							/* CONSOLE_FORM_H */
