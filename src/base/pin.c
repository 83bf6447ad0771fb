/*-------------------------------------------------------------------------
 *
 * pin.c
 *	  Values as texts that mean the same in every session.
 *
 * Keys and parameters of a run are kept as text.  Some types print and read
 * differently under different server parameters (DateStyle and others): both
 * directions run between pin_begin and pin_end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "base/pin.h"

/*
 * Pin the server parameters that shape a text, the last of them if "path", and have a snapshot for types
 * whose functions run SQL.  Needs a transaction.  Returns the nest level for
 * pin_end; an error in between undoes it with the transaction.
 */
int
pin_begin(bool path)
{
	static const char *const pinned[][2] = {
		{"DateStyle", "ISO, YMD"},
		{"IntervalStyle", "postgres"},
		{"TimeZone", "UTC"},
		{"bytea_output", "hex"},
		{"extra_float_digits", "3"},
		{"lc_monetary", "C"},
		{"array_nulls", "on"},
		{"xmloption", "content"},
		{"search_path", "pg_catalog, pg_temp"}
	};
	int			nest;

	PushActiveSnapshot(GetTransactionSnapshot());
	nest = NewGUCNestLevel();
	for (int i = 0; i < lengthof(pinned) - (path ? 0 : 1); i++)
		(void) set_config_option(pinned[i][0], pinned[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

/* Undo what pin_begin did. */
void
pin_end(int nest)
{
	AtEOXact_GUC(true, nest);
	PopActiveSnapshot();
}
