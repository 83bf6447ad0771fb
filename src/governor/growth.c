/*-------------------------------------------------------------------------
 *
 * growth.c
 *	  How much the target of a run grows, and what keeps space from being used again.
 *
 * The sizes are those of the files of the target and its partitions, with their TOAST
 * tables and indexes, read without a lock: whoever locks a table is not waited for, and a
 * file that is gone has no size.  They are read every few seconds, each second where the
 * growth has a limit, and less often where there are so many files that it takes
 * long.
 *
 * At its limit a run is held.  Files do not become smaller by that; but where workers, or
 * VACUUM, free space inside of them, because what kept it is gone, the run goes on with
 * that: as much as was freed counts as if the files were smaller by it.  What VACUUM frees is
 * told by the server's counters: so many dead rows less, at the size of an average row.  It
 * is used before files grow, and so counts for no more than what lets a held run go on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/quantity.h"
#include "governor/growth.h"
#include "governor/health.h"
#include "shared/run_slot.h"
#include "store/event.h"

/* How often to look at the sizes, without and with a limit, and how much of the time. */
#define LOOK_MS			5000
#define LOOK_CLOSELY_MS	1000
#define LEAST_RATIO		100
/* Space that is kept for so long is kept by more than the batches of others. */
#define KEPT_MS			5000
/* A held run goes on when so much was freed, in bytes, or this part of its limit. */
#define ENOUGH_FREED	(8 * 1024 * 1024)
#define ENOUGH_PART		4

/* What there is of the target and its children. */
typedef struct Sizes
{
	int64		table;			/* bytes */
	int64		indexes;
	int64		rows;			/* dead ones, too */
	int64		dead;
	int64		vacuums;		/* that they have had */
} Sizes;

/* ---- sizes ---- */

/*
 * The size of one relation.  Where they are given, *toast is its TOAST table, *has_children
 * whether it may have partitions or children.  What is not there has neither, and no size.
 */
static int64
file_size(Oid relid, Oid *toast, bool *has_children)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	int64		size = 0;

	if (toast)
		*toast = InvalidOid;
	if (has_children)
		*has_children = false;
	if (!HeapTupleIsValid(tuple))
		return 0;
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (toast)
		*toast = form->reltoastrelid;
	if (has_children)
		*has_children = form->relhassubclass;
	if (OidIsValid(form->relfilenode) && RELKIND_HAS_STORAGE(form->relkind) &&
		form->relpersistence != RELPERSISTENCE_TEMP)
		size = BLCKSZ *
			compat_file_blocks(OidIsValid(form->reltablespace) ? form->reltablespace : MyDatabaseTableSpace,
							   MyDatabaseId, form->relfilenode);
	ReleaseSysCache(tuple);
	return size;
}

static int64
indexes_size(Relation pg_index, Oid relid)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int64		size = 0;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(pg_index, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		size += file_size(((Form_pg_index) GETSTRUCT(tuple))->indexrelid, NULL, NULL);
	systable_endscan(scan);
	return size;
}

/*
 * Append the children of a table to a list.  What the server has for that raises an
 * error where one of them is dropped at the same time, and locks them otherwise.
 */
static List *
add_children(List *relids, Oid parent)
{
	Relation	pg_inherits = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(parent));
	scan = systable_beginscan(pg_inherits, InheritsParentIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		relids = list_append_unique_oid(relids, ((Form_pg_inherits) GETSTRUCT(tuple))->inhrelid);
	systable_endscan(scan);
	table_close(pg_inherits, AccessShareLock);
	return relids;
}

/* One of the server's counters for a table. */
static int64
counter(PGFunction function, Oid relid)
{
	return DatumGetInt64(DirectFunctionCall1(function, ObjectIdGetDatum(relid)));
}

/* The sizes of the target and its children; with what the server has counted, if that is wanted. */
static void
read_sizes(Oid target, Sizes *sizes, bool counters)
{
	Relation	pg_index = table_open(IndexRelationId, AccessShareLock);
	List	   *relids = list_make1_oid(target);
	ListCell   *lc;

	memset(sizes, 0, sizeof(Sizes));
	foreach(lc, relids)
	{
		Oid			toast;
		bool		has_children;

		CHECK_FOR_INTERRUPTS();
		sizes->table += file_size(lfirst_oid(lc), &toast, &has_children);
		if (OidIsValid(toast))
			sizes->table += file_size(toast, NULL, NULL) + indexes_size(pg_index, toast);
		sizes->indexes += indexes_size(pg_index, lfirst_oid(lc));
		if (counters)
		{
			int64		dead = counter(pg_stat_get_dead_tuples, lfirst_oid(lc));

			sizes->dead += dead;
			sizes->rows += dead + counter(pg_stat_get_live_tuples, lfirst_oid(lc));
			sizes->vacuums += counter(pg_stat_get_vacuum_count, lfirst_oid(lc)) +
				counter(pg_stat_get_autovacuum_count, lfirst_oid(lc));
		}
		if (has_children)
			relids = add_children(relids, lfirst_oid(lc));
	}
	table_close(pg_index, AccessShareLock);
}

/* How many dead rows a VACUUM has removed since this was last asked, and what space that has freed. */
static void
update_vacuumed(Growth *growth, const Sizes *sizes)
{
	int64		removed = growth->dead - sizes->dead;

	if (growth->knows_vacuums && sizes->vacuums > growth->vacuums && removed > 0)
		growth->vacuumed += (int64) ((double) removed * sizes->table / (sizes->rows + removed));
	growth->knows_vacuums = true;
	growth->vacuums = sizes->vacuums;
	growth->dead = sizes->dead;
}

/* Read the sizes, closely where the growth has a limit.  True if they are others than before. */
static bool
update_sizes(Oid target, Growth *growth, bool closely)
{
	SpaceInfo  *space = &growth->space;
	SpaceInfo	before = *space;
	TimestampTz began = GetCurrentTimestamp();
	TimestampTz ended;
	Sizes		sizes;
	int64		pause;

	read_sizes(target, &sizes, closely);
	if (space->table_size < 0)
	{
		space->table_size = sizes.table;
		space->index_size = sizes.indexes;
	}
	space->table_growth = sizes.table - space->table_size;
	space->index_growth = sizes.indexes - space->index_size;
	if (closely)
		update_vacuumed(growth, &sizes);

	ended = GetCurrentTimestamp();
	pause = Max(closely ? LOOK_CLOSELY_MS : LOOK_MS, (ended - began) / 1000 * LEAST_RATIO);
	growth->due_at = TimestampTzPlusMilliseconds(ended, pause);
	return before.table_size != space->table_size || before.table_growth != space->table_growth ||
		before.index_growth != space->index_growth;
}

/* Whether the time has come; also when the clock was set back. */
static bool
is_due(TimestampTz due_at, bool closely)
{
	TimestampTz now = GetCurrentTimestamp();

	return now >= due_at ||
		TimestampDifferenceExceeds(now, due_at, (closely ? LOOK_CLOSELY_MS : LOOK_MS) * LEAST_RATIO);
}

/* ---- what keeps space ---- */

/*
 * Who keeps the space that batches of the run have left from being used again, as
 * palloc'd text; NULL if nobody does for long.  In a transaction, outside of a store
 * session.
 */
char *
growth_keeper(Oid database, int64 run_id)
{
	TimestampTz kept_since = run_slot_kept_since(database, run_id);

	if (kept_since == 0 || !TimestampDifferenceExceeds(kept_since, GetCurrentTimestamp(), KEPT_MS))
		return NULL;
	return health_oldest_snapshot();
}

/* Say who keeps space, or that nobody does any more.  True if that is news. */
static bool
note_keeper(StoreSession *session, const RunInfo *run, Growth *growth, const char *keeper)
{
	SpaceInfo  *space = &growth->space;
	EventInfo	event = {.kind = "space"};

	if (keeper == NULL ? space->kept_by == NULL :
		space->kept_by && strncmp(keeper, space->kept_by, sizeof(growth->kept_by) - 1) == 0)
		return false;
	event.reason = keeper ? psprintf("the table grows: %s", keeper) :
		"what batches have left can be used again";
	store_add_event(session, run, &event);
	if (keeper)
		strlcpy(growth->kept_by, keeper, sizeof(growth->kept_by));
	space->kept_by = keeper ? growth->kept_by : NULL;
	return true;
}

/* ---- the limit ---- */

/* How much the target may grow, in bytes; 0 for no limit. */
static int64
limit_of(const RunSettings *settings, const SpaceInfo *space)
{
	double		part;

	if (settings->max_growth >= 0)
		return settings->max_growth;
	part = -settings->max_growth / 1000000.0 * (space->table_size + space->index_size);
	return (int64) Max(Min(part, (double) PG_INT64_MAX / 2), 1);
}

/* Whether the run is to be held; freed is what its workers have freed so far, in bytes. */
static bool
is_at_limit(Growth *growth, int64 limit, int64 freed)
{
	int64		grown = growth->space.table_growth + growth->space.index_growth;
	int64		enough = Min(ENOUGH_FREED, limit / ENOUGH_PART);

	if (limit != growth->limit)
		growth->most = 0;
	growth->limit = limit;
	if (limit == 0 || grown < limit || grown <= growth->most)
		return growth->is_held = false;

	/* its workers may have been others when it was held */
	if (!growth->is_held || freed < growth->freed_then)
	{
		growth->freed_then = freed;
		growth->vacuumed = 0;
	}
	freed -= growth->freed_then;
	growth->is_held = freed + growth->vacuumed < enough;
	if (!growth->is_held)
		growth->most = grown + freed + Min(growth->vacuumed, enough);
	return growth->is_held;
}

/* What stands in the row of the run, for one that is seen for the first time. */
static void
load(StoreSession *session, int64 run_id, Growth *growth)
{
	SpaceInfo  *space = &growth->space;

	if (growth->is_loaded)
		return;
	store_load_space(session, run_id, space);
	if (space->kept_by)
	{
		strlcpy(growth->kept_by, space->kept_by, sizeof(growth->kept_by));
		space->kept_by = growth->kept_by;
	}
	growth->due_at = DT_NOBEGIN;
	growth->is_loaded = true;
}

/* The workers of the run are gone: put down how much its target has grown. */
void
growth_note_end(StoreSession *session, const RunInfo *run, Growth *growth)
{
	bool		changed;

	load(session, run->id, growth);
	changed = update_sizes(run->target, growth, false);
	changed = note_keeper(session, run, growth, NULL) || changed;
	if (changed)
		store_set_space(session, run->id, &growth->space);
}

/*
 * Look how much the target of the run has grown, if it is time for that, and put it down,
 * and who keeps space; its workers have freed so many bytes.  Returns why the run is to be held, or NULL.
 */
char *
growth_look(StoreSession *session, const RunInfo *run, const RunSettings *settings,
			Growth *growth, const char *keeper, int64 freed)
{
	SpaceInfo  *space = &growth->space;
	bool		closely = settings->max_growth != 0;
	bool		changed = false;
	int64		limit;

	load(session, run->id, growth);
	if (is_due(growth->due_at, closely))
		changed = update_sizes(run->target, growth, closely);
	changed = note_keeper(session, run, growth, keeper) || changed;
	if (changed)
		store_set_space(session, run->id, space);

	limit = limit_of(settings, space);
	if (!is_at_limit(growth, limit, freed))
		return NULL;
	return psprintf("table and indexes have grown by %s, limit %s%s%s",
					quantity_bytes_text(space->table_growth + space->index_growth), quantity_bytes_text(limit),
					space->kept_by ? "; " : "", space->kept_by ? space->kept_by : "");
}
