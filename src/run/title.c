/*-------------------------------------------------------------------------
 *
 * title.c
 *	  What a run is called where people read of it.
 *
 * The answers of the control functions and the lines of backfill_wait begin with it.
 * Not within a store session: the table is named as the caller's search_path has it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "run/title.h"

/* The table, or that it is gone. */
char *
title_table(Oid table)
{
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table)))
		return pstrdup("a table that was dropped");
	return DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(table)));
}

/* "run 2 of fill_amount on orders" */
char *
title_run(int64 id, const char *name, Oid target)
{
	return psprintf("run " INT64_FORMAT " of %s on %s", id, quote_identifier(name),
					title_table(target));
}
