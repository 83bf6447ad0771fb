/*-------------------------------------------------------------------------
 *
 * backfill.c
 *	  The door: module magic, server parameters, registration.
 *
 * Loaded through shared_preload_libraries the library takes shared memory and
 * registers the launcher.  Loaded later, by the first call of a function, it
 * can define and show things but start nothing; the functions that would need
 * the launcher say so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "backfill.h"
#include "compat.h"
#include "shared.h"

COMPAT_MODULE_MAGIC;

int			backfill_max_workers = 4;
int			backfill_event_retention = 129600;

void		_PG_init(void);

void
_PG_init(void)
{
	if (IsBinaryUpgrade)
		return;

	/* PGC_POSTMASTER parameters can only be defined while preloading */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("backfill.max_workers",
								"Sets the most backfill workers at one time in all databases.",
								"They are taken from \"max_worker_processes\".",
								&backfill_max_workers,
								4, 1, 1024,
								PGC_POSTMASTER, 0,
								NULL, NULL, NULL);

	DefineCustomIntVariable("backfill.event_retention",
							"Sets how long events, and the batches and errors of completed runs, are kept.",
							"-1 keeps them for ever.",
							&backfill_event_retention,
							129600, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN,
							NULL, NULL, NULL);

	MarkGUCPrefixReserved("backfill");

	if (!process_shared_preload_libraries_in_progress)
		return;

	shared_init();
	launcher_register();
}
