/*-------------------------------------------------------------------------
 *
 * backfill.c
 *	  The door: module magic and registration.
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

#include "base/compat.h"
#include "process/launcher.h"
#include "settings/guc.h"
#include "shared/lease.h"
#include "shared/metrics.h"
#include "shared/segment.h"

COMPAT_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	if (IsBinaryUpgrade)
		return;
	guc_define();
	if (!process_shared_preload_libraries_in_progress)
		return;
	segment_init();
	lease_init();
	metrics_init();
	launcher_register();
}
