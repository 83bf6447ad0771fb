/*-------------------------------------------------------------------------
 *
 * measure.c
 *	  Real batches, run, measured and rolled back.
 *
 * A few batches, spread evenly across the range of the key, are run as a worker
 * would run them, in a subtransaction for each place that is rolled back.  The
 * first one, at the start of the walk, runs with the executor's instruments:
 * it shows the plan, and warms up what a worker would warm up once.  It does
 * not count.
 *
 * Where the others begin comes from the planner's histogram of the first
 * column of the key, so nothing has to be read to find them.  Without one they
 * follow each other from the start of the walk.
 *
 * Statistics are off in a rehearsal, so the share of HOT updates is counted in
 * the old versions of the rows: they are read with the snapshot of before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_statistic.h"
#include "executor/instrument.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/bufmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "rehearsal/frame.h"
#include "rehearsal/measure.h"
#include "rehearsal/plan.h"
#include "rehearsal/tally.h"
#include "store/definition.h"
#include "walk/bounds.h"
#include "walk/statement.h"
#include "walk/walk.h"

#define MEASURED_PLACES		5
/* At each of them several batches are run, if they are small. */
#define ROWS_IN_A_ROW		2000
#define BATCHES_IN_A_ROW	20
/*
 * Of larger batches only a part is run, and of small tables only a part is
 * touched, because what is rolled back leaves dead rows behind.
 */
#define MEASURED_ROWS		10000
#define MEASURED_SHARE		0.01
#define MEASURED_LEAST		100
/* No further batch begins after so many milliseconds. */
#define ENOUGH_MS			30000.0
/* Rows of each batch that are looked at for HOT. */
#define HOT_SAMPLE			1000

/* ---- locks ---- */

static HeldLock *
find_lock(List *locks, Oid relid)
{
	ListCell   *lc;

	foreach(lc, locks)
	{
		HeldLock   *lock = lfirst(lc);

		if (lock->relid == relid)
			return lock;
	}
	return NULL;
}

/* Whether locks on the relation are of interest: a user's table. */
static bool
is_table(Oid relid)
{
	char		kind = relid < FirstNormalObjectId ? '\0' : get_rel_relkind(relid);
	char	   *schema;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE &&
		kind != RELKIND_SEQUENCE && kind != RELKIND_FOREIGN_TABLE)
		return false;
	schema = get_namespace_name(get_rel_namespace(relid));
	return schema && strcmp(schema, "backfill") != 0;
}

static int
compare_locks(const ListCell *a, const ListCell *b)
{
	Oid			first = ((HeldLock *) lfirst(a))->relid;
	Oid			second = ((HeldLock *) lfirst(b))->relid;

	return first < second ? -1 : first > second ? 1 : 0;
}

/* The strongest lock that this transaction has on each table. */
List *
measure_held_locks(void)
{
	LockData   *data = GetLockStatusData();
	List	   *locks = NIL;

	for (int i = 0; i < data->nelements; i++)
	{
		LockInstanceData *instance = &data->locks[i];
		HeldLock   *lock;

		if (instance->pid != MyProcPid || instance->locktag.locktag_type != LOCKTAG_RELATION ||
			instance->locktag.locktag_field1 != MyDatabaseId ||
			!is_table(instance->locktag.locktag_field2))
			continue;
		lock = find_lock(locks, instance->locktag.locktag_field2);
		if (lock == NULL)
		{
			lock = palloc0(sizeof(HeldLock));
			lock->relid = instance->locktag.locktag_field2;
			locks = lappend(locks, lock);
		}
		for (LOCKMODE mode = 1; mode <= MaxLockMode; mode++)
		{
			if (instance->holdMask & LOCKBIT_ON(mode))
				lock->mode = Max(lock->mode, mode);
		}
	}
	list_sort(locks, compare_locks);
	return locks;
}

/* Those that are new, or on the target. */
static List *
new_locks(List *before, Oid target)
{
	List	   *locks = measure_held_locks();
	ListCell   *lc;

	foreach(lc, locks)
	{
		HeldLock   *lock = lfirst(lc);
		HeldLock   *known = find_lock(before, lock->relid);

		if (known && known->mode >= lock->mode && lock->relid != target)
			locks = foreach_delete_current(locks, lc);
	}
	return locks;
}

/* ---- where to measure ---- */

/* The first key at or after the value of the first column; false if none. */
static bool
seek(Rehearsal *rehearsal, Datum value, Datum *key)
{
	Walk	   *walk = rehearsal->walk;
	WalkRange	range = {1, true, walk->nkeys};
	ParamListInfo params = frame_params(rehearsal, NULL, rehearsal->end);
	Statement  *query = bounds_prepare_query(walk, &range, NULL, NULL, "",
											 walk->descending, " LIMIT $1");

	walk_set_columns(walk, params, 0, &value, 1);
	walk_set_number(walk, params, 1);
	return statement_fetch(query, params, NULL, walk->nkeys, key);
}

/* The bounds of the histogram between the ends of the walk, in its order. */
static List *
histogram_inside(Rehearsal *rehearsal, AttStatsSlot *slot)
{
	WalkColumn *column = &rehearsal->walk->columns[0];
	bool		down = rehearsal->walk->descending;
	FmgrInfo	compare;
	List	   *inside = NIL;

	fmgr_info(get_opfamily_proc(column->opfamily, column->opcintype,
								column->opcintype, BTORDER_PROC), &compare);
	for (int i = 0; i < slot->nvalues; i++)
	{
		Datum		value = slot->values[i];
		int			start = DatumGetInt32(FunctionCall2Coll(&compare, column->collation,
															value, rehearsal->start[0]));
		int			end = DatumGetInt32(FunctionCall2Coll(&compare, column->collation,
														  value, rehearsal->end[0]));

		if (down ? start > 0 || end < 0 : start < 0 || end > 0)
			continue;
		value = datumCopy(value, column->typbyval, column->typlen);
		inside = down ? lcons(DatumGetPointer(value), inside) :
			lappend(inside, DatumGetPointer(value));
	}
	return inside;
}

/*
 * Values of the first column of the key between the ends of the walk, about as
 * many rows from one to the next; NIL if the statistics do not know.
 */
static List *
known_values(Rehearsal *rehearsal)
{
	Walk	   *walk = rehearsal->walk;
	HeapTuple	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(walk->target),
										Int16GetDatum(walk->columns[0].attno),
										BoolGetDatum(walk->has_children));
	List	   *values = NIL;
	AttStatsSlot slot;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_HISTOGRAM, InvalidOid,
						 ATTSTATSSLOT_VALUES))
	{
		values = histogram_inside(rehearsal, &slot);
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	return values;
}

/* ---- HOT ---- */

typedef struct HotCount
{
	int64		rows;			/* in scope */
	int			updated;
	int			hot;
} HotCount;

/*
 * Count a row that was in scope, and if it belongs to the sample, look at its
 * version, which the batch may have replaced.
 */
static void
count_hot(TupleTableSlot *slot, void *arg)
{
	HotCount   *count = (HotCount *) arg;
	int			n = slot->tts_tupleDescriptor->natts;
	ItemPointer tid = (ItemPointer) DatumGetPointer(slot->tts_values[n - 1]);
	Relation	rel;
	Buffer		buffer;
	Page		page;
	ItemId		item;

	if (++count->rows > HOT_SAMPLE)
		return;
	rel = table_open(DatumGetObjectId(slot->tts_values[n - 2]), AccessShareLock);
	if (rel->rd_tableam != GetHeapamTableAmRoutine())
	{
		table_close(rel, NoLock);
		return;
	}
	buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(tid));
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, ItemPointerGetOffsetNumber(tid));
	if (ItemIdIsNormal(item))
	{
		HeapTupleHeader header = (HeapTupleHeader) PageGetItem(page, item);

		if (!(header->t_infomask & HEAP_XMAX_INVALID) &&
			!HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask) &&
			TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(header)) &&
			!ItemPointerEquals(&header->t_ctid, tid))
		{
			count->updated++;
			if (HeapTupleHeaderIsHotUpdated(header))
				count->hot++;
		}
	}
	UnlockReleaseBuffer(buffer);
	table_close(rel, NoLock);
}

/* ---- a batch ---- */

/* The size of the tables on the disk, with indexes and TOAST. */
static double
total_size(List *relids)
{
	double		size = 0;
	ListCell   *lc;

	foreach(lc, relids)
		size += DatumGetInt64(DirectFunctionCall1(pg_total_relation_size,
												  ObjectIdGetDatum(lfirst_oid(lc))));
	return size;
}

static double
elapsed_ms(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_MILLISEC(now);
}

/* A batch, from its start on; a state of the measurement. */
typedef struct Sampler
{
	Rehearsal  *rehearsal;
	Measurement *m;
	Statement  *statements[2];	/* by whether the range includes its start */
	Statement  *old_rows[2];	/* likewise, for count_hot */
	List	   *written;		/* tables that the statement writes */
	instr_time	begin;
	bool		count_scope;	/* all rows in scope, not only a sample */
	int64		size;			/* of a batch */
	int			in_a_row;		/* batches */
} Sampler;

/* One execution of a batch. */
typedef struct Execution
{
	Statement  *statement;
	ParamListInfo params;
	double		affected;		/* result */
} Execution;

static void
execute(void *arg)
{
	Execution  *execution = (Execution *) arg;

	execution->affected = statement_execute(execution->statement, execution->params, NULL);
}

/* Run the statement for the range, timed; the counters are the whole process's. */
static void
run_batch(Sampler *sampler, bool start_inclusive, ParamListInfo params)
{
	Rehearsal  *rehearsal = sampler->rehearsal;
	Measurement *m = sampler->m;
	BufferUsage buffers = pgBufferUsage;
	uint64		wal = pgWalUsage.wal_bytes;
	double		size = total_size(sampler->written);
	Execution	execution = {sampler->statements[start_inclusive], params};
	instr_time	start;
	double		ms;

	INSTR_TIME_SET_CURRENT(start);
	frame_limit_time(rehearsal);
	m->elsewhere = tally_elsewhere(statement_text(execution.statement), execute, &execution,
								   m->elsewhere);
	frame_free_time(rehearsal);
	ms = elapsed_ms(start);
	m->affected += execution.affected;

	m->statement_ms += ms;
	m->longest_ms = Max(m->longest_ms, ms);
	m->wal_bytes += pgWalUsage.wal_bytes - wal;
	m->hit += pgBufferUsage.shared_blks_hit - buffers.shared_blks_hit;
	m->read += pgBufferUsage.shared_blks_read - buffers.shared_blks_read;
	m->dirtied += pgBufferUsage.shared_blks_dirtied - buffers.shared_blks_dirtied;
	m->written += pgBufferUsage.shared_blks_written - buffers.shared_blks_written;
	m->growth += total_size(sampler->written) - size;
	m->batches++;
}

/* Find the end of a batch, timed, and run it.  Returns whether it is the last. */
static bool
measure_batch(Sampler *sampler, const Datum *start, bool start_inclusive, Datum *end)
{
	Rehearsal  *rehearsal = sampler->rehearsal;
	HotCount	hot = {0};
	ParamListInfo params;
	Snapshot	before;
	instr_time	begin;
	int64		rows;
	bool		at_end;

	CHECK_FOR_INTERRUPTS();
	INSTR_TIME_SET_CURRENT(begin);
	rows = bounds_next_end(rehearsal->walk, frame_bounds(rehearsal), start,
						   start_inclusive, rehearsal->end, sampler->size, NULL,
						   end, &at_end);
	if (rows == 0)
		return true;
	sampler->m->search_ms += elapsed_ms(begin);
	sampler->m->rows += rows;

	params = frame_params(rehearsal, start, end);
	walk_set_number(rehearsal->walk, params,
					sampler->count_scope ? Max(rows, HOT_SAMPLE) : HOT_SAMPLE);
	before = RegisterSnapshot(GetTransactionSnapshot());
	run_batch(sampler, start_inclusive, params);
	statement_each_row(sampler->old_rows[start_inclusive], params, before, count_hot, &hot);
	UnregisterSnapshot(before);
	sampler->m->in_scope += hot.rows;
	sampler->m->updated += hot.updated;
	sampler->m->hot += hot.hot;
	return at_end;
}

/*
 * Measure some batches that follow each other, and roll them back.  Leaves in
 * "key" where the walk could go on: at the start if it has come to its end.
 */
static void
measure_place(Sampler *sampler, Datum *key)
{
	Rehearsal  *rehearsal = sampler->rehearsal;
	ResourceOwner owner = CurrentResourceOwner;
	bool		at_end = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(rehearsal->context);
	for (int i = 0; i < sampler->in_a_row && !at_end; i++)
	{
		Datum		end[INDEX_MAX_KEYS];

		at_end = measure_batch(sampler, key, i == 0, end);
		memcpy(key, at_end ? rehearsal->start : end, sizeof(end));
		if (elapsed_ms(sampler->begin) > ENOUGH_MS)
			break;
	}
	RollbackAndReleaseCurrentSubTransaction();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(rehearsal->context);
}

/* The first batch: look at it closely, and do not count it. */
static void
warm_up(Sampler *sampler, List *locks_before)
{
	Rehearsal  *rehearsal = sampler->rehearsal;
	ResourceOwner owner = CurrentResourceOwner;
	Datum		end[INDEX_MAX_KEYS];
	bool		at_end;
	ParamListInfo params;
	List	   *counts;
	ListCell   *lc;

	(void) bounds_next_end(rehearsal->walk, frame_bounds(rehearsal), rehearsal->start,
						   true, rehearsal->end, sampler->size, NULL, end, &at_end);
	params = frame_params(rehearsal, rehearsal->start, end);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(rehearsal->context);
	frame_limit_time(rehearsal);
	counts = plan_execute(rehearsal->statement, params, &sampler->m->plan);
	frame_free_time(rehearsal);
	sampler->m->locks = new_locks(locks_before, rehearsal->walk->target);
	RollbackAndReleaseCurrentSubTransaction();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(rehearsal->context);

	foreach(lc, counts)
	{
		Oid			relid = ((TallyCount *) lfirst(lc))->relid;

		sampler->written = list_concat_unique_oid(sampler->written,
												  find_all_inheritors(relid, NoLock, NULL));
	}
}

/* How many rows a batch has, and how many are measured together. */
static void
choose_size(Sampler *sampler)
{
	double		most = Max(MEASURED_SHARE * sampler->rehearsal->rows_total, MEASURED_LEAST);
	int64		size = sampler->rehearsal->settings.batch_size;

	sampler->size = Max(Min(size, (int64) Min(most, MEASURED_ROWS)), 1);
	sampler->in_a_row = Max(Min((int64) Min(most, ROWS_IN_A_ROW) / sampler->size,
								BATCHES_IN_A_ROW), 1);
}

/* What is run for the first batch at a place, and for the others. */
static void
prepare_statements(Sampler *sampler)
{
	Rehearsal  *rehearsal = sampler->rehearsal;
	Walk	   *walk = rehearsal->walk;
	DefinitionInfo *def = rehearsal->def;

	sampler->statements[true] = rehearsal->statement;
	sampler->statements[false] = statement_prepare(def->statement, walk, def->scope,
												   rehearsal->parameters, false);
	for (int inclusive = 0; inclusive < 2; inclusive++)
	{
		WalkRange	range = {walk->nkeys, inclusive != 0, walk->nkeys};

		sampler->old_rows[inclusive] =
			bounds_prepare_query(walk, &range, def->scope, rehearsal->parameters,
								 ", batch.tableoid, batch.ctid", walk->descending,
								 " LIMIT $1");
	}
}

/*
 * Run some batches and roll them back.  The walk has rows.  The locks are those
 * that the caller's transaction had before.  On demand the rows in scope are
 * counted, which reads each once more.  The result is in the memory of the
 * rehearsal.
 */
Measurement *
measure_batches(Rehearsal *rehearsal, List *locks_before, bool count_scope)
{
	Measurement *m = palloc0(sizeof(Measurement));
	Sampler		sampler = {.rehearsal = rehearsal, .m = m, .count_scope = count_scope};
	List	   *values = known_values(rehearsal);
	Datum		key[INDEX_MAX_KEYS];

	initStringInfo(&m->plan);
	INSTR_TIME_SET_CURRENT(sampler.begin);
	choose_size(&sampler);
	prepare_statements(&sampler);
	warm_up(&sampler, locks_before);

	m->is_spread = values != NIL;
	memcpy(key, rehearsal->start, sizeof(key));
	for (int i = 0; i < MEASURED_PLACES; i++)
	{
		int			n = (2 * i + 1) * list_length(values) / (2 * MEASURED_PLACES);

		if (values != NIL &&
			!seek(rehearsal, PointerGetDatum(list_nth(values, n)), key))
			memcpy(key, rehearsal->start, sizeof(key));
		measure_place(&sampler, key);
		if (elapsed_ms(sampler.begin) > ENOUGH_MS)
			break;
	}
	return m;
}
