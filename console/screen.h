/*-------------------------------------------------------------------------
 *
 * screen.h
 *	  The screens: their paths, and how they are read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_SCREEN_H
#define CONSOLE_SCREEN_H

#include <stdbool.h>

#include "database.h"
#include "form.h"
#include "text.h"

typedef struct Screen
{
	const char *name;
	const char *pattern;		/* of its path: ID a number, NAME any segment */
	const char *const *query;	/* names that its query may have, to NULL */
	bool		is_live;		/* can be watched; else it is read when asked for */
	const char *(*sql) (const DatabaseFacts *facts);
} Screen;

extern const Screen *screen_find(const char *path, const char *query, Text *args);
extern const Screen *screen_metrics(void);

#endif							/* CONSOLE_SCREEN_H */
