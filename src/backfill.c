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

RateLimit	backfill_rate_limit = {0};
RateLimit	backfill_wal_rate_limit = {0};

static char *rate_limit_text = NULL;
static char *wal_rate_limit_text = NULL;

extern PGDLLEXPORT void _PG_init(void);

/* For the budgets: read the text into *extra. */
static bool
check_rate(char **newval, void **extra, bool bytes)
{
	RateLimit	limit = {0};

	if (**newval != '\0' && !rate_parse(*newval, bytes, &limit))
	{
		GUC_check_errdetail("The value must be empty, or a text such as \"%s\".",
							bytes ? "20MB per second" : "3000 per 5 min");
		return false;
	}
	*extra = compat_guc_alloc(sizeof(RateLimit));
	if (*extra == NULL)
		return false;
	memcpy(*extra, &limit, sizeof(RateLimit));
	return true;
}

static bool
check_rate_limit(char **newval, void **extra, GucSource source)
{
	return check_rate(newval, extra, false);
}

static bool
check_wal_rate_limit(char **newval, void **extra, GucSource source)
{
	return check_rate(newval, extra, true);
}

static void
assign_rate_limit(const char *newval, void *extra)
{
	backfill_rate_limit = *(RateLimit *) extra;
}

static void
assign_wal_rate_limit(const char *newval, void *extra)
{
	backfill_wal_rate_limit = *(RateLimit *) extra;
}

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

	DefineCustomStringVariable("backfill.rate_limit",
							   "Sets the most rows that all runs together process in a window of time.",
							   "For example \"3000 per 5 min\"; empty for no limit.",
							   &rate_limit_text,
							   "",
							   PGC_SIGHUP, 0,
							   check_rate_limit, assign_rate_limit, NULL);

	DefineCustomStringVariable("backfill.wal_rate_limit",
							   "Sets how much WAL all runs together write in a window of time.",
							   "For example \"20MB per second\"; empty for no limit.",
							   &wal_rate_limit_text,
							   "",
							   PGC_SIGHUP, 0,
							   check_wal_rate_limit, assign_wal_rate_limit, NULL);

	MarkGUCPrefixReserved("backfill");

	if (!process_shared_preload_libraries_in_progress)
		return;

	shared_init();
	launcher_register();
}
