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
 * What a batch takes whatever its size shows in one that is much smaller, which
 * is run after the others at each place and compared with them.
 *
 * With on_error "skip" an error is not the end, as it is not that of a run: the
 * batch is tried in parts, down to the row that fails, behind which it goes on.
 *
 * Statistics are off in a rehearsal, so the share of HOT updates is counted in
 * the old versions of the rows: they are read with the snapshot of before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

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
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/rowerror.h"
#include "definition/definition.h"
#include "rehearsal/frame.h"
#include "rehearsal/heldlocks.h"
#include "rehearsal/measure.h"
#include "rehearsal/plan.h"
#include "rehearsal/tally.h"
#include "settings/setting.h"
#include "store/definition.h"
#include "walk/bounds.h"
#include "walk/key.h"
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
/* A batch that shows what is fixed has such a part of the rows of the others, */
#define SMALLER				10
/* and so many of them tell more than noise. */
#define ENOUGH_PAIRS		3
/* At one place no more parts of batches than that are tried after an error. */
#define MOST_FAILURES		40
/* As many places are known of the pages of a table as a histogram has bounds. */
#define PLACES				100
/* Rows of each batch that are looked at for HOT. */
#define HOT_SAMPLE			1000

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

/* Places between the ends of a walk by pages, as many pages from one to the next. */
static List *
places_inside(Rehearsal *rehearsal)
{
	BlockNumber first = ItemPointerGetBlockNumberNoCheck((ItemPointer) DatumGetPointer(rehearsal->start[0]));
	BlockNumber last = ItemPointerGetBlockNumberNoCheck((ItemPointer) DatumGetPointer(rehearsal->end[0]));
	List	   *places = NIL;

	for (int i = 0; i < PLACES && last > first; i++)
	{
		ItemPointer place = palloc(sizeof(ItemPointerData));

		ItemPointerSet(place, first + (BlockNumber) ((double) (last - first) * i / PLACES), 1);
		places = lappend(places, place);
	}
	return places;
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

	if (walk->by_page)
		values = places_inside(rehearsal);
	if (!HeapTupleIsValid(tuple))
		return values;
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

/* The size of the tables on the disk, by one of the server's functions. */
static double
size_of(List *relids, PGFunction function)
{
	double		size = 0;
	ListCell   *lc;

	foreach(lc, relids)
		size += DatumGetInt64(DirectFunctionCall1(function, ObjectIdGetDatum(lfirst_oid(lc))));
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
	int			in_a_row;		/* batches */
	double		fixed[MEASURED_PLACES]; /* what is fixed, in ms, as it seems at a place */
	int			nfixed;			/* so many of them */
} Sampler;

/* One execution of a batch. */
typedef struct Execution
{
	Statement  *statement;
	ParamListInfo params;
	double		affected;		/* result */
	double		planning_ms;	/* likewise */
} Execution;

static void
execute(void *arg)
{
	Execution  *execution = (Execution *) arg;
	StatementProgress progress = {NIL};

	execution->affected = statement_execute(execution->statement, execution->params, &progress);
	execution->planning_ms = progress.planning / 1000;
}

/* Run the statement for the range, timed; the counters are the whole process's. */
static void
run_batch(Sampler *sampler, bool start_inclusive, ParamListInfo params)
{
	Rehearsal  *rehearsal = sampler->rehearsal;
	Measurement *m = sampler->m;
	BufferUsage buffers = pgBufferUsage;
	uint64		wal = pgWalUsage.wal_bytes;
	double		tables = size_of(sampler->written, pg_table_size);
	double		indexes = size_of(sampler->written, pg_indexes_size);
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
	m->planning_ms += execution.planning_ms;

	m->statement_ms += ms;
	m->longest_ms = Max(m->longest_ms, ms);
	m->wal_bytes += pgWalUsage.wal_bytes - wal;
	m->hit += pgBufferUsage.shared_blks_hit - buffers.shared_blks_hit;
	m->read += pgBufferUsage.shared_blks_read - buffers.shared_blks_read;
	m->dirtied += pgBufferUsage.shared_blks_dirtied - buffers.shared_blks_dirtied;
	m->written += pgBufferUsage.shared_blks_written - buffers.shared_blks_written;
	m->table_growth += size_of(sampler->written, pg_table_size) - tables;
	m->index_growth += size_of(sampler->written, pg_indexes_size) - indexes;
	m->batches++;
}

/* ---- one after the other ---- */

/* A batch that is measured, or a part of one. */
typedef struct Step
{
	Sampler    *sampler;
	Datum		start[INDEX_MAX_KEYS];
	bool		start_inclusive;
	int64		size;			/* rows that it is to have */

	/* filled in */
	Datum		end[INDEX_MAX_KEYS];
	int64		rows;			/* that there are in it */
	bool		at_end;			/* it is the last of the walk */
} Step;

/* Find the end of a batch, timed, and run it. */
static void
measure_step(void *arg)
{
	Step	   *step = (Step *) arg;
	Sampler    *sampler = step->sampler;
	Rehearsal  *rehearsal = sampler->rehearsal;
	bool		inclusive = step->start_inclusive;
	HotCount	hot = {0};
	ParamListInfo params;
	Snapshot	before;
	instr_time	begin;

	CHECK_FOR_INTERRUPTS();
	INSTR_TIME_SET_CURRENT(begin);
	step->rows = bounds_next_end(rehearsal->walk, frame_bounds(rehearsal), step->start,
								 inclusive, rehearsal->end, step->size, NULL,
								 step->end, &step->at_end);
	if (step->rows == 0)
	{
		step->at_end = true;
		return;
	}
	sampler->m->search_ms += elapsed_ms(begin);
	sampler->m->rows += step->rows;

	params = frame_params(rehearsal, step->start, step->end);
	walk_set_number(rehearsal->walk, params,
					rehearsal->def->scope ? Max(step->rows, HOT_SAMPLE) : HOT_SAMPLE);
	before = RegisterSnapshot(GetTransactionSnapshot());
	run_batch(sampler, inclusive, params);
	statement_each_row(sampler->old_rows[inclusive], params, before, count_hot, &hot);
	UnregisterSnapshot(before);
	if (rehearsal->def->scope)
		sampler->m->in_scope += hot.rows;
	sampler->m->updated += hot.updated;
	sampler->m->hot += hot.hot;
}

/* The next one begins where this one has ended. */
static void
move_on(Step *step)
{
	memcpy(step->start, step->end, sizeof(step->start));
	step->start_inclusive = false;
	step->size = step->sampler->m->size;
}

/*
 * Call the function.  With on_error "skip" an error that a run would skip is
 * returned, and what the function did is undone.
 */
static ErrorData *
attempt(Rehearsal *rehearsal, void (*function) (void *arg), void *arg)
{
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	if (rehearsal->settings.on_error != ON_ERROR_SKIP)
	{
		function(arg);
		return NULL;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(rehearsal->context);
	PG_TRY();
	{
		function(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(rehearsal->context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(rehearsal->context);
	frame_free_time(rehearsal);
	if (error && (rowerror_is_retryable(error) || !rowerror_is_possible(error)))
		ReThrowError(error);
	return error;
}

static void
note_error(Measurement *m, const ErrorData *error)
{
	m->failed++;
	if (m->error == NULL)
		m->error = error->message;
}

/*
 * Measure a batch, and move on.  Returns false after an error: the step is a part of
 * the batch then, to be tried next, or what follows the row that is the reason.
 */
static bool
take_step(Step *step)
{
	Measurement *m = step->sampler->m;
	Measurement before = *m;
	ErrorData  *error = attempt(step->sampler->rehearsal, measure_step, step);

	if (error == NULL)
	{
		move_on(step);
		return true;
	}
	*m = before;
	note_error(m, error);
	if (step->rows > 1)
	{
		step->size = step->rows / 2;
		step->at_end = false;
		return false;
	}
	m->bad_rows++;
	if (m->bad_key == NULL)
		m->bad_key = key_to_text(step->sampler->rehearsal->walk, step->end);
	move_on(step);
	return false;
}

/*
 * See what a small batch takes that follows the ones just measured, and so what of
 * them is fixed.  It counts for nothing else.
 */
static void
take_small_step(Step *step, const Measurement *before)
{
	Sampler    *sampler = step->sampler;
	Measurement *m = sampler->m;
	Measurement after = *m;
	int			batches = m->batches - before->batches;
	double		rows;
	double		ms;
	double		share;
	ErrorData  *error;

	if (batches == 0 || step->at_end || m->size < SMALLER)
		return;
	rows = (m->rows - before->rows) / batches;
	ms = (m->statement_ms - before->statement_ms) / batches;
	m->elsewhere = NIL;
	step->size = m->size / SMALLER;
	error = attempt(sampler->rehearsal, measure_step, step);
	share = step->rows / rows;
	if (error == NULL && step->rows > 0 && share < 0.5)
		sampler->fixed[sampler->nfixed++] =
			(m->statement_ms - after.statement_ms - share * ms) / (1 - share);
	*m = after;
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
	Measurement before = *sampler->m;
	Step		step = {.sampler = sampler, .start_inclusive = true, .size = sampler->m->size};
	int			failures = 0;

	memcpy(step.start, key, sizeof(step.start));
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(rehearsal->context);
	for (int i = 0; i < sampler->in_a_row && !step.at_end && failures < MOST_FAILURES;)
	{
		if (take_step(&step))
			i++;
		else
			failures++;
		if (elapsed_ms(sampler->begin) > ENOUGH_MS)
			break;
	}
	memcpy(key, step.at_end ? rehearsal->start : step.start, sizeof(step.start));
	take_small_step(&step, &before);
	RollbackAndReleaseCurrentSubTransaction();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(rehearsal->context);
}

/* ---- the first one ---- */

/* The execution that is looked at closely. */
typedef struct Look
{
	Sampler    *sampler;
	ParamListInfo params;
	List	   *counts;			/* result: TallyCount */
} Look;

static void
look_closely(void *arg)
{
	Look	   *look = (Look *) arg;
	Rehearsal  *rehearsal = look->sampler->rehearsal;

	frame_limit_time(rehearsal);
	look->counts = plan_execute(rehearsal->statement, look->params, MEASURE_PLAN_LINES,
								&look->sampler->m->plan);
	frame_free_time(rehearsal);
}

/* The first batch: look at it closely, or at a part of it, and do not count it. */
static void
warm_up(Sampler *sampler, List *locks_before)
{
	Rehearsal  *rehearsal = sampler->rehearsal;
	ResourceOwner owner = CurrentResourceOwner;
	Look		look = {sampler};
	ErrorData  *error;
	int64		size = sampler->m->size;
	ListCell   *lc;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(rehearsal->context);
	do
	{
		Datum		end[INDEX_MAX_KEYS];
		bool		at_end;

		(void) bounds_next_end(rehearsal->walk, frame_bounds(rehearsal), rehearsal->start,
							   true, rehearsal->end, size, NULL, end, &at_end);
		look.params = frame_params(rehearsal, rehearsal->start, end);
		error = attempt(rehearsal, look_closely, &look);
		if (error)
			note_error(sampler->m, error);
		if (error && size == 1)
			sampler->m->bad_key = key_to_text(rehearsal->walk, end);
		size /= 2;
	} while (error && size > 0);
	sampler->m->locks = heldlocks_new(locks_before, rehearsal->walk->target);
	RollbackAndReleaseCurrentSubTransaction();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(rehearsal->context);

	foreach(lc, look.counts)
	{
		Oid			relid = ((TallyCount *) lfirst(lc))->relid;

		sampler->written = list_concat_unique_oid(sampler->written,
												  find_all_inheritors(relid, NoLock, NULL));
	}
}

/* ---- all of it ---- */

/* How many rows a batch has, and how many are measured together. */
static void
choose_size(Sampler *sampler)
{
	double		most = Max(MEASURED_SHARE * sampler->rehearsal->rows_total, MEASURED_LEAST);
	int64		size = sampler->rehearsal->settings.batch_size;

	size = Max(Min(size, (int64) Min(most, MEASURED_ROWS)), 1);
	sampler->m->size = size;
	sampler->in_a_row = Max(Min((int64) Min(most, ROWS_IN_A_ROW) / size, BATCHES_IN_A_ROW), 1);
}

/* What is run for the first batch at a place, and for the others. */
static void
prepare_statements(Sampler *sampler)
{
	Rehearsal  *rehearsal = sampler->rehearsal;
	Walk	   *walk = rehearsal->walk;
	DefinitionInfo *def = rehearsal->def;

	sampler->statements[true] = rehearsal->statement;
	sampler->statements[false] = statement_prepare(definition_statement(def), walk, def->scope,
												   rehearsal->parameters, false);
	for (int inclusive = 0; inclusive < 2; inclusive++)
	{
		WalkRange	range = walk_range(walk, inclusive ? RANGE_FROM : RANGE_AFTER);

		sampler->old_rows[inclusive] =
			bounds_prepare_query(walk, &range, def->scope, rehearsal->parameters,
								 ", batch.tableoid, batch.ctid", walk->descending,
								 " LIMIT $1");
	}
}

static int
compare_doubles(const void *a, const void *b)
{
	double		first = *(const double *) a;
	double		second = *(const double *) b;

	return first < second ? -1 : first > second ? 1 : 0;
}

static double
median(double *values, int n)
{
	qsort(values, n, sizeof(double), compare_doubles);
	return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/* What is fixed of each batch, less what may be noise. */
static void
conclude_fixed(Sampler *sampler)
{
	Measurement *m = sampler->m;
	int			n = sampler->nfixed;
	double		fixed;

	if (n < ENOUGH_PAIRS)
		return;
	fixed = median(sampler->fixed, n);
	for (int i = 0; i < n; i++)
		sampler->fixed[i] = fabs(sampler->fixed[i] - fixed);
	fixed -= median(sampler->fixed, n);
	m->fixed_ms = Max(Min(fixed, m->statement_ms / m->batches), 0);
	m->knows_fixed = true;
}

/*
 * Run some batches and roll them back.  The walk has rows.  The locks are those
 * that the caller's transaction had before.  The result is in the memory of the
 * rehearsal.
 */
Measurement *
measure_batches(Rehearsal *rehearsal, List *locks_before)
{
	Measurement *m = palloc0(sizeof(Measurement));
	Sampler		sampler = {.rehearsal = rehearsal, .m = m};
	List	   *values = known_values(rehearsal);
	Datum		key[INDEX_MAX_KEYS];

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
	conclude_fixed(&sampler);
	return m;
}
