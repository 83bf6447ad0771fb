/*-------------------------------------------------------------------------
 *
 * toll.c
 *	  What the statement of a batch took from the server.
 *
 * Read from counters that the process keeps anyway, before and after the statement, so
 * that it costs a batch next to nothing: time on a processor, blocks that were not in shared buffers, whole
 * pages in the WAL, and updates of the target, HOT and all.  It is kept in the row of
 * the batch, from which backfill_report says why a batch was slow.
 *
 * Updates are counted with the server's own statistics of tables, those that triggers
 * and functions make included.  Where "track_counts" is off there are none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/resource.h>

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "executor/instrument.h"
#include "pgstat.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "engine/toll.h"

/* Of a target with more partitions updates are not counted: each is looked up. */
#define MOST_TABLES		64

/*
 * The plain tables that hold the rows of the target: itself, partitions, children.  NIL
 * if they are too many.  In the current memory context.
 */
List *
toll_tables(Oid target)
{
	List	   *tables = NIL;
	ListCell   *lc;

	foreach(lc, find_all_inheritors(target, NoLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) != RELKIND_RELATION)
			continue;
		if (list_length(tables) == MOST_TABLES)
			return NIL;
		tables = lappend_oid(tables, lfirst_oid(lc));
	}
	return tables;
}

/* Add what this process has updated in the table since it last reported its statistics. */
static void
add_updates(Oid table, int64 *updated, int64 *hot_updated)
{
	PgStat_TableStatus *status = find_tabstat_entry(table);

	if (status == NULL)
		return;
	*updated += compat_updated(status);
	*hot_updated += compat_hot_updated(status);
	if (COMPAT_COUNTS_ARE_COPY)
	{
		pfree(status);
		return;
	}
	for (PgStat_TableXactStatus *trans = status->trans; trans; trans = trans->upper)
		*updated += trans->tuples_updated;
}

static void
count_updates(List *tables, int64 *updated, int64 *hot_updated)
{
	ListCell   *lc;

	*updated = *hot_updated = 0;
	foreach(lc, tables)
		add_updates(lfirst_oid(lc), updated, hot_updated);
}

/* The time for which this process has been on a processor, in microseconds. */
static int64
cpu_time(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage) != 0)
		return 0;
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * USECS_PER_SEC +
		usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* The statement is about to run, which changes these tables if any. */
void
toll_begin(Toll *toll, List *tables)
{
	toll->cpu_time = cpu_time();
	toll->blocks_read = pgBufferUsage.shared_blks_read;
	toll->full_pages = pgWalUsage.wal_fpi;
	count_updates(tables, &toll->updated, &toll->hot_updated);
}

/* It has run, in the same transaction: what it took goes into the result. */
void
toll_end(const Toll *toll, List *tables, BatchResult *result)
{
	int64		updated;
	int64		hot_updated;

	result->cpu_time = cpu_time() - toll->cpu_time;
	count_updates(tables, &updated, &hot_updated);
	result->blocks_read = pgBufferUsage.shared_blks_read - toll->blocks_read;
	result->full_pages = pgWalUsage.wal_fpi - toll->full_pages;
	result->updated = updated - toll->updated;
	result->hot_updated = hot_updated - toll->hot_updated;
}
