/*-------------------------------------------------------------------------
 *
 * warning.h
 *	  What somebody is warned of, for whoever writes it down.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_WARNING_H
#define BACKFILL_REHEARSAL_WARNING_H

#include "nodes/pg_list.h"

typedef struct Warning
{
	const char *code;			/* for programs: documented, and stays */
	char	   *message;
	const char *hint;			/* what to do, or NULL */
	Oid			relid;			/* the table that it is about, or InvalidOid */
} Warning;

extern void warning_add(List **warnings, const char *code, Oid relid,
						const char *format,...) pg_attribute_printf(4, 5);
extern void warning_hint(List *warnings, const char *hint);

#endif							/* BACKFILL_REHEARSAL_WARNING_H */
