/*-------------------------------------------------------------------------
 *
 * action.h
 *	  What a visitor can have done.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_ACTION_H
#define CONSOLE_ACTION_H

#include <stdbool.h>

#include "job.h"

typedef struct Action
{
	const char *name;			/* behind /api/do/ */
	const char *needs;			/* the field that must not be empty, or NULL */
	bool		changes;		/* whether screens have to be read anew */
	JobSql		sql;
} Action;

extern const Action *action_find(const char *name);
extern const Action *action_preview(void);

#endif							/* CONSOLE_ACTION_H */
