/*-------------------------------------------------------------------------
 *
 * guc.c
 *	  The server parameters of the extension.
 *
 * What they are called, what they may be, and what they are now.  The settings
 * of a run are another thing: settings.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/quantity.h"
#include "settings/guc.h"

int			guc_max_workers = 4;
int			guc_max_leases = 4096;
int			guc_max_metrics = 200;
int			guc_event_retention = 129600;
char	   *guc_note = "";

RateLimit	guc_rate_limit = {0};
RateLimit	guc_wal_rate_limit = {0};

static char *rate_limit_text = NULL;
static char *wal_rate_limit_text = NULL;

/* For the budgets: read the text into *extra. */
static bool
check_rate(char **newval, void **extra, bool bytes)
{
	RateLimit	limit = {0};

	if (**newval != '\0' && !quantity_parse_rate(*newval, bytes, &limit))
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
	guc_rate_limit = *(RateLimit *) extra;
}

static void
assign_wal_rate_limit(const char *newval, void *extra)
{
	guc_wal_rate_limit = *(RateLimit *) extra;
}

/* At load: define them. */
void
guc_define(void)
{
	/* PGC_POSTMASTER parameters can only be defined while preloading */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("backfill.max_workers",
								"Sets the most backfill workers at one time in all databases.",
								"They are taken from \"max_worker_processes\".",
								&guc_max_workers,
								4, 1, 1024,
								PGC_POSTMASTER, 0,
								NULL, NULL, NULL);

	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("backfill.max_leases",
								"Sets the most batches that clients of all databases can have in their hands.",
								"Each takes about 400 bytes of shared memory.",
								&guc_max_leases,
								4096, 1, 1000000,
								PGC_POSTMASTER, 0,
								NULL, NULL, NULL);

	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("backfill.max_metrics",
								"Sets the most definitions of all databases that batches are counted for, by definition.",
								"Each takes about 400 bytes of shared memory.",
								&guc_max_metrics,
								200, 1, 100000,
								PGC_POSTMASTER, 0,
								NULL, NULL, NULL);

	DefineCustomIntVariable("backfill.event_retention",
							"Sets how long events, and the batches and errors of completed runs, are kept.",
							"-1 keeps them for ever.",
							&guc_event_retention,
							129600, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN,
							NULL, NULL, NULL);

	DefineCustomStringVariable("backfill.note",
							   "Sets what the events of what this session does say besides.",
							   "For example the number of a ticket; empty for nothing.",
							   &guc_note,
							   "",
							   PGC_USERSET, 0,
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
}
