/*-------------------------------------------------------------------------
 *
 * divide.c
 *	  Dividing a batch that failed, and leaving a row out.
 *
 * To find the row that fails, a batch is divided into parts, which are batches
 * of the same run and number: what is good in it is committed part by part,
 * until the row stands alone.
 *
 * Mostly the row is found at once: a statement that goes through its range in
 * the order of the key has processed just the rows before the one that failed,
 * and how many that were is known.  It is only a guess.  Where it is wrong, a
 * part of several rows fails again, and is divided evenly.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/memutils.h"

#include "batch.h"
#include "divide.h"
#include "hook.h"

/* ---- where to divide ---- */

/*
 * The key of a row in scope of the range, at that offset, read with the active
 * snapshot.  False if there is none.
 */
bool
divide_find_in_scope(Worker *worker, const Datum *start, bool start_inclusive,
					 const Datum *end, int64 offset, Datum *key)
{
	ParamListInfo params = parameters_list(worker->walk, worker->parameters);

	if (worker->rows_in_scope[start_inclusive] == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(worker->walk_context);

		worker->rows_in_scope[start_inclusive] =
			bounds_prepare_row(worker->walk, start_inclusive, worker->run->scope,
							   worker->parameters);
		statement_keep(worker->rows_in_scope[start_inclusive]);
		MemoryContextSwitchTo(old);
	}
	walk_set_start(worker->walk, params, start);
	walk_set_end(worker->walk, params, end);
	walk_set_number(worker->walk, params, offset);
	return statement_fetch(worker->rows_in_scope[start_inclusive], params, GetActiveSnapshot(),
						   worker->walk->nkeys, key);
}

/*
 * The same in the batch in hand: from its start or, if after is not NULL, from
 * the row after that key.
 */
static bool
find_in_scope(Worker *worker, const Datum *after, int64 offset, Datum *key)
{
	BatchInfo  *batch = worker->batch;
	Datum		start[INDEX_MAX_KEYS];
	Datum		last[INDEX_MAX_KEYS];

	walk_key_from_text(worker->walk, batch->start_key, start);
	walk_key_from_text(worker->walk, batch->end_key, last);
	return divide_find_in_scope(worker, after ? after : start,
								after == NULL && batch->start_inclusive, last, offset, key);
}

/*
 * The keys at which to divide so that the row which failed, as far as one can
 * guess, stands alone; none if nothing speaks for a guess.
 */
static int
guess_ends(Worker *worker, ArrayType **ends)
{
	BatchInfo  *batch = worker->batch;
	int64		processed = worker->processed;
	Datum		before[INDEX_MAX_KEYS];
	Datum		row[INDEX_MAX_KEYS];
	ArrayType  *row_text;
	int			n = 0;

	/*
	 * A part of a batch was guessed at before; and the plan of a statement goes
	 * up the index, whatever the direction of the walk.
	 */
	if (processed < 0 || batch->had_error || worker->parts != DIVIDE_PARTS ||
		worker->walk->descending)
		return 0;
	if (processed > 0 && !find_in_scope(worker, NULL, processed - 1, before))
		return 0;
	if (!find_in_scope(worker, processed > 0 ? before : NULL, 0, row))
		return 0;
	if (processed > 0)
		ends[n++] = walk_key_to_text(worker->walk, before);
	row_text = walk_key_to_text(worker->walk, row);
	if (!batch_is_last_key(row_text, batch->end_key))
		ends[n++] = row_text;
	return n;
}

/*
 * The keys at which to divide into worker->parts parts of like size; without an
 * error, after the rows that may be begun.
 */
static int
even_ends(Worker *worker, int64 rows, ArrayType **ends)
{
	BatchInfo  *batch = worker->batch;
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		last[INDEX_MAX_KEYS];
	bool		inclusive = batch->start_inclusive;
	int64		size = worker->error ?
		Max((rows + worker->parts - 1) / worker->parts, 1) : worker->fitting;
	int			n = 0;

	walk_key_from_text(worker->walk, batch->start_key, start);
	walk_key_from_text(worker->walk, batch->end_key, last);
	for (int64 left = rows; left > size && n < worker->parts - 1; left -= size)
	{
		bool		at_end;

		(void) bounds_next_end(worker->walk, worker->bounds, start, inclusive, last, size,
							   GetActiveSnapshot(), end, &at_end);
		if (at_end)
			break;
		ends[n] = walk_key_to_text(worker->walk, end);
		if (batch_is_last_key(ends[n], batch->end_key))
			break;
		n++;
		inclusive = false;
		memcpy(start, end, sizeof(start));
	}
	return n;
}

/* ---- dividing ---- */

/*
 * The rows in a range of the batch in hand.  Without a scope the first part of
 * a guess has as many as were processed.
 */
static int64
count_rows(Worker *worker, const BatchInfo *part, bool guessed)
{
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];

	if (guessed && worker->run->scope == NULL)
		return worker->processed;

	walk_key_from_text(worker->walk, part->start_key, start);
	walk_key_from_text(worker->walk, part->end_key, end);
	return bounds_count(worker->walk, worker->bounds, start, part->start_inclusive, end,
						GetActiveSnapshot());
}

/*
 * Insert a part for each of the ends, pending, and let go of the batch in hand,
 * which keeps what is left.
 */
static void
store_parts(Worker *worker, int64 rows, ArrayType **ends, int n, bool guessed)
{
	CatalogSession session;
	BatchInfo	part = *worker->batch;
	const char *message = worker->error ? worker->error->message : NULL;

	for (int i = 0; i < n; i++)
	{
		part.end_key = ends[i];
		part.rows_scanned = count_rows(worker, &part,
									   guessed && i == 0 && worker->processed > 0);
		rows -= part.rows_scanned;
		catalog_begin(&session);
		catalog_insert_part(&session, worker->run->id, &part, message);
		catalog_end(&session);
		part.start_key = ends[i];
		part.start_inclusive = false;
	}
	catalog_begin(&session);
	if (worker->parts == 2 && message)
	{
		EventInfo	event = {
			.kind = "retry",
			.batch = worker->batch,
			.sqlstate = unpack_sql_state(worker->error->sqlerrcode),
			.reason = psprintf("in halves: %s", message)
		};

		catalog_add_event(&session, worker->run, &event);
	}
	if (!catalog_shrink_batch(&session, worker->run->id, worker->batch, worker->slot.token,
							  part.start_key, Max(rows, 0), message))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("batch " INT64_FORMAT " was taken over by another worker",
						worker->batch->number)));
	catalog_end(&session);
}

/*
 * In a transaction of its own: divide the batch in hand, whose worker->error
 * was rolled back, or which has more rows than may be begun, into at most
 * worker->parts parts that are pending, and let go of it.  Sets worker->divided; false means that it holds one row only and
 * is still in hand.  The part with the end of the range stays part 0, so that
 * the walk goes on from there.
 */
void
divide_batch(Worker *worker)
{
	ArrayType  *ends[DIVIDE_PARTS];
	int64		rows;
	int			n;
	bool		guessed;
	int			nest;

	worker->divided = false;
	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
	batch_lock_for_claim(worker);

	nest = worker_enter_user_code(worker);
	PushActiveSnapshot(GetLatestSnapshot());
	rows = worker->batch->rows_scanned;
	n = guess_ends(worker, ends);
	guessed = n > 0;
	if (!guessed)
	{
		rows = worker->batch->rows_scanned = count_rows(worker, worker->batch, false);
		n = even_ends(worker, rows, ends);
	}
	AtEOXact_GUC(false, nest);
	worker->divided = n > 0;
	if (worker->divided)
		store_parts(worker, rows, ends, n, guessed);
	PopActiveSnapshot();
	worker_commit(worker);
	if (!worker->divided)
		return;
	batch_leave_quarantine(worker);
	shared_run_set_pending(MyDatabaseId, worker->run->id, DT_NOBEGIN);
	batch_forget(worker);
}

/* ---- leaving a row out ---- */

/* The key of the first row in the batch in hand, or its end if there is none. */
static ArrayType *
find_row(Worker *worker)
{
	BatchInfo  *batch = worker->batch;
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		last[INDEX_MAX_KEYS];
	bool		at_end;
	int			nest = worker_enter_user_code(worker);

	PushActiveSnapshot(GetLatestSnapshot());
	walk_key_from_text(worker->walk, batch->start_key, start);
	walk_key_from_text(worker->walk, batch->end_key, last);
	(void) bounds_next_end(worker->walk, worker->bounds, start, batch->start_inclusive,
						   last, 1, GetActiveSnapshot(), end, &at_end);
	PopActiveSnapshot();
	AtEOXact_GUC(false, nest);
	return at_end ? batch->end_key : walk_key_to_text(worker->walk, end);
}

/* What leave_out leaves out. */
static ArrayType *skipped_key;

/* Put down the error event, unless the row before met the same. */
static void
note_skip(Worker *worker, CatalogSession *session)
{
	const char *sqlstate = unpack_sql_state(worker->error->sqlerrcode);
	EventInfo	event = {
		.kind = "skip",
		.batch = worker->batch,
		.sqlstate = sqlstate,
		.reason = worker->error->message
	};

	if (worker->last_skipped && strcmp(worker->last_skipped, sqlstate) == 0)
		return;
	catalog_add_event(session, worker->run, &event);
	worker->last_skipped = MemoryContextStrdup(worker->context, sqlstate);
}

static void
leave_out(Worker *worker)
{
	CatalogSession session;

	catalog_begin(&session);
	if (!catalog_skip_batch(&session, worker->run->id, worker->batch, skipped_key,
							worker->slot.token, worker->error))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("batch " INT64_FORMAT " was taken over by another worker",
						worker->batch->number)));
	note_skip(worker, &session);
	catalog_end(&session);
}

/*
 * In a transaction of its own: leave the batch in hand out, which is one row,
 * because of worker->error.  Sets worker->too_many_errors when the run has
 * seen more of them than its settings allow.
 */
void
divide_skip(Worker *worker)
{
	CatalogSession session;
	RunSettings *settings = &worker->settings;
	HookEvent	event = hook_batch_event(worker, "failed", worker->error->message);
	int64		errors;
	int64		rows;

	worker_begin(worker);
	MemoryContextSwitchTo(worker->loop_context);
	skipped_key = find_row(worker);
	hook_change(worker, &event, leave_out);
	catalog_begin(&session);
	catalog_error_counts(&session, worker->run->id, &errors, &rows);
	catalog_end(&session);
	worker_commit(worker);

	worker->too_many_errors =
		(settings->max_errors > 0 && errors > settings->max_errors) ||
		(errors + rows >= DIVIDE_JUDGED_ROWS &&
		 (double) errors / (errors + rows) * 1000000 > settings->max_error_rate);
	batch_leave_quarantine(worker);
	batch_forget(worker);
}
