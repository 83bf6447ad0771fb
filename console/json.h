/*-------------------------------------------------------------------------
 *
 * json.h
 *	  JSON that the database has made, read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_JSON_H
#define CONSOLE_JSON_H

#include <stdbool.h>
#include <stddef.h>

typedef enum JsonKind
{
	JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT
} JsonKind;

/* A value, its name if it is a member of an object, and its next sibling. */
typedef struct Json
{
	JsonKind	kind;
	char	   *name;			/* or NULL */
	char	   *text;			/* of a string or a number, else NULL */
	struct Json *child;			/* first element or member */
	struct Json *next;
} Json;

extern Json *json_parse(const char *text);
extern void json_free(Json *value);
extern const Json *json_member(const Json *object, const char *name);
extern const char *json_text(const Json *object, const char *name);

#endif							/* CONSOLE_JSON_H */
