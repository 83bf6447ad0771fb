/*-------------------------------------------------------------------------
 *
 * warning.c
 *	  What somebody is warned of, for whoever writes it down.
 *
 * A warning has a code, which programs may rely on: the reference has all of
 * them, in a table.  What is said beside it is for people, and may change.
 * Memory is the current context's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "rehearsal/warning.h"

/* Add one to the list, Warning. */
void
warning_add(List **warnings, const char *code, Oid relid, const char *format,...)
{
	Warning    *warning = palloc0(sizeof(Warning));
	StringInfoData message;

	initStringInfo(&message);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&message, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	warning->code = code;
	warning->relid = relid;
	warning->message = message.data;
	*warnings = lappend(*warnings, warning);
}

/* Say what to do about the last one. */
void
warning_hint(List *warnings, const char *hint)
{
	((Warning *) llast(warnings))->hint = hint;
}
