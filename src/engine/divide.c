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
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "engine/claim.h"
#include "engine/divide.h"
#include "engine/fetch.h"
#include "engine/hook.h"
#include "engine/session.h"
#include "engine/work.h"
#include "settings/setting.h"
#include "shared/run_slot.h"
#include "store/batch.h"
#include "store/event.h"
#include "store/run.h"
#include "store/store.h"
#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/records.h"
#include "walk/walk.h"

/* ---- where to divide a page ---- */

/* The ordinals around the record behind so many, which is guessed to have failed. */
static int
records_around(const BatchInfo *batch, int64 processed, ArrayType **ends)
{
	int64		start = records_ordinal(batch->start_key);
	int64		end = records_ordinal(batch->end_key);
	int			n = 0;

	if (processed > 0 && start + processed < end)
		ends[n++] = records_key(start + processed);
	if (start + processed + 1 < end)
		ends[n++] = records_key(start + processed + 1);
	return n;
}

/* The ordinals at which to divide into parts of that size. */
static int
records_of_size(const Division *division, int64 size, ArrayType **ends)
{
	const BatchInfo *batch = division->worker->hand.batch;
	int64		end = records_ordinal(batch->end_key);
	int			n = 0;

	for (int64 at = records_ordinal(batch->start_key) + size;
		 at < end && n < division->parts - 1; at += size)
		ends[n++] = records_key(at);
	return n;
}

/* ---- where to divide ---- */

/*
 * The key of a row in scope of the batch in hand, at that offset: from its start
 * or, if after is not NULL, from the row after that key.  False if there is none.
 */
static bool
find_in_scope(Worker *worker, const Datum *after, int64 offset, Datum *key)
{
	BatchInfo  *batch = worker->hand.batch;
	Datum		start[INDEX_MAX_KEYS];
	Datum		last[INDEX_MAX_KEYS];

	key_from_text(worker->work.walk, batch->start_key, start);
	key_from_text(worker->work.walk, batch->end_key, last);
	return work_find_in_scope(&worker->session, &worker->work, after ? after : start,
							  after == NULL && batch->start_inclusive, last, offset, key);
}

/*
 * The keys at which to divide so that the row which failed, as far as one can
 * guess, stands alone; none if nothing speaks for a guess.
 */
static int
guess_ends(const Division *division, ArrayType **ends)
{
	Worker	   *worker = division->worker;
	BatchInfo  *batch = worker->hand.batch;
	int64		processed = worker->hand.processed;
	Datum		before[INDEX_MAX_KEYS];
	Datum		row[INDEX_MAX_KEYS];
	ArrayType  *row_text;
	int			n = 0;

	/*
	 * A part of a batch was guessed at before; and the plan of a statement goes
	 * up the index, whatever the direction of the walk.
	 */
	if (processed < 0 || division->parts != DIVIDE_PARTS || ARR_HASNULL(batch->end_key))
		return 0;
	if (!worker->hand.is_named && (batch->had_error || worker->work.walk->descending))
		return 0;
	if (worker->work.walk->by_source)
		return records_around(batch, processed, ends);
	if (processed > 0 && !find_in_scope(worker, NULL, processed - 1, before))
		return 0;
	if (!find_in_scope(worker, processed > 0 ? before : NULL, 0, row))
		return 0;
	if (processed > 0)
		ends[n++] = key_to_text(worker->work.walk, before);
	row_text = key_to_text(worker->work.walk, row);
	if (!key_is_last(row_text, batch->end_key))
		ends[n++] = row_text;
	return n;
}

/*
 * The keys at which to divide into parts of so many rows, and of what shares a key with the
 * last of them.
 */
static int
ends_of_size(const Division *division, int64 rows, int64 size, ArrayType **ends)
{
	Worker	   *worker = division->worker;
	BatchInfo  *batch = worker->hand.batch;
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		last[INDEX_MAX_KEYS];
	bool		inclusive = batch->start_inclusive;
	int			n = 0;

	key_from_text(worker->work.walk, batch->start_key, start);
	key_from_text(worker->work.walk, batch->end_key, last);
	for (int64 left = rows; left > size && n < division->parts - 1; left -= size)
	{
		bool		at_end;

		(void) bounds_next_end(worker->work.walk, worker->work.bounds, start, inclusive, last, size,
							   GetActiveSnapshot(), end, &at_end);
		if (at_end)
			break;
		ends[n] = key_to_text(worker->work.walk, end);
		if (key_is_last(ends[n], batch->end_key))
			break;
		n++;
		inclusive = false;
		memcpy(start, end, sizeof(start));
	}
	return n;
}

/*
 * The keys at which to divide into parts of like size; without an error, after
 * the rows that may be begun.  Where the first part would be all of it, because many rows
 * share the last key, smaller ones are tried: only rows of one key cannot be divided.
 */
static int
even_ends(const Division *division, int64 rows, ArrayType **ends)
{
	int64		size = division->error ?
		Max((rows + division->parts - 1) / division->parts, 1) : division->fitting;
	int			n = 0;

	if (division->worker->work.walk->by_source)
		return records_of_size(division, size, ends);
	if (ARR_HASNULL(division->worker->hand.batch->end_key))
		return 0;
	while (n == 0 && size > 0)
	{
		n = ends_of_size(division, rows, size, ends);
		size = division->worker->work.walk->may_repeat ? size / 2 : 0;
	}
	return n;
}

/* ---- dividing ---- */

/* The row of the batch says that it is not in our hand any more. */
compat_noreturn static void
taken_over(const Worker *worker)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("batch " INT64_FORMAT " was taken over by another worker",
					worker->hand.batch->number)));
}

/*
 * The rows in a range of the batch in hand.  Without a scope the first part of
 * a guess has as many as were processed, unless it goes on to the end of a group.
 */
static int64
count_rows(Worker *worker, const BatchInfo *part, bool guessed)
{
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	int64		rows;
	int			nest;

	if (worker->work.walk->by_source)
		return records_ordinal(part->end_key) - records_ordinal(part->start_key);
	if (guessed && worker->session.run->scope == NULL && !worker->work.walk->may_repeat)
		return worker->hand.processed;

	nest = session_enter_statement(&worker->session);
	key_from_text(worker->work.walk, part->start_key, start);
	key_from_text(worker->work.walk, part->end_key, end);
	rows = bounds_count(worker->work.walk, worker->work.bounds, start,
						key_range_shape(part->start_inclusive, part->end_key), end,
						GetActiveSnapshot());
	AtEOXact_GUC(false, nest);
	return rows;
}

/*
 * Insert a part for each of the ends, pending, and let go of the batch in hand,
 * which keeps what is left.
 */
static void
store_parts(const Division *division, int64 rows, ArrayType **ends, int n, bool guessed)
{
	Worker	   *worker = division->worker;
	RunInfo    *run = worker->session.run;
	StoreSession store;
	BatchInfo	part = *worker->hand.batch;
	const char *message = division->error ? division->error->message : NULL;

	for (int i = 0; i < n; i++)
	{
		part.end_key = ends[i];
		part.rows_scanned = count_rows(worker, &part,
									   guessed && i == 0 && worker->hand.processed > 0);
		rows -= part.rows_scanned;
		store_begin(&store);
		store_insert_part(&store, worker->session.walk_id, &part, message);
		store_end(&store);
		part.start_key = ends[i];
		part.start_inclusive = false;
	}
	store_begin(&store);
	if (division->parts == 2 && message)
	{
		EventInfo	event = {
			.kind = "retry",
			.batch = worker->hand.batch,
			.sqlstate = unpack_sql_state(division->error->sqlerrcode),
			.reason = psprintf("in halves: %s", message)
		};

		store_add_event(&store, run, &event);
	}
	if (!store_shrink_batch(&store, worker->session.walk_id, worker->hand.batch, claim_claimant(worker).token,
							part.start_key, Max(rows, 0), message))
		taken_over(worker);
	store_end(&store);
}

/*
 * In a transaction of its own: divide the batch in hand, whose error was rolled
 * back, or which has more rows than may be begun, into parts that are pending,
 * and let go of it.  The argument is a Division.  The part with the end of the
 * range stays part 0, so that the walk goes on from there.
 */
void
divide_batch(Session *session, void *arg)
{
	Division   *division = (Division *) arg;
	Worker	   *worker = division->worker;
	BatchInfo  *batch = worker->hand.batch;
	ArrayType  *ends[DIVIDE_MANY];
	int64		rows;
	int			n;
	bool		guessed;
	int			nest;

	division->divided = false;
	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	claim_lock(worker);

	nest = session_enter_statement(session);
	PushActiveSnapshot(GetLatestSnapshot());
	rows = batch->rows_scanned;
	n = guess_ends(division, ends);
	guessed = n > 0;
	if (!guessed)
	{
		rows = batch->rows_scanned = count_rows(worker, batch, false);
		n = even_ends(division, rows, ends);
	}
	AtEOXact_GUC(false, nest);
	if (n > 0)
		store_parts(division, rows, ends, n, guessed);
	PopActiveSnapshot();
	session_commit(session);
	division->divided = n > 0;
	if (!division->divided)
		return;
	claim_leave_quarantine(&worker->hand);
	run_slot_set_pending(MyDatabaseId, session->slot.run_id, DT_NOBEGIN);
	claim_forget(worker);
}

/* ---- leaving a row out ---- */

/* The key of the first row in the batch in hand, or its end if there is none. */
ArrayType *
divide_find_row(Worker *worker)
{
	BatchInfo  *batch = worker->hand.batch;
	Walk	   *walk = worker->work.walk;
	Datum		start[INDEX_MAX_KEYS];
	Datum		end[INDEX_MAX_KEYS];
	Datum		last[INDEX_MAX_KEYS];
	bool		at_end;
	int			nest;

	if (walk->by_source)
		return batch->end_key;
	nest = session_enter_statement(&worker->session);
	PushActiveSnapshot(GetLatestSnapshot());
	key_from_text(walk, batch->start_key, start);
	key_from_text(walk, batch->end_key, last);
	(void) bounds_next_end(walk, worker->work.bounds, start, batch->start_inclusive,
						   last, 1, GetActiveSnapshot(), end, &at_end);
	PopActiveSnapshot();
	AtEOXact_GUC(false, nest);
	return at_end ? batch->end_key : key_to_text(walk, end);
}

/* Put down the error event, unless the row before met the same. */
static void
note_skip(const Skip *skip, StoreSession *store)
{
	const Hand *hand = &skip->worker->hand;
	const char *sqlstate = unpack_sql_state(skip->error->sqlerrcode);
	EventInfo	event = {
		.kind = "skip",
		.batch = hand->batch,
		.sqlstate = sqlstate,
		.reason = skip->repair_error == NULL ? skip->error->message :
			psprintf("%s; not repaired: %s", skip->error->message, skip->repair_error)
	};

	if (strcmp(hand->last_skipped, sqlstate) == 0)
		return;
	store_add_event(store, skip->worker->session.run, &event);
}

/* The change that leaving the row out is, within its hooks. */
static void
leave_out(Session *session, void *arg)
{
	const Skip *skip = (const Skip *) arg;
	BatchInfo  *batch = skip->worker->hand.batch;
	ArrayType  *key = skip->worker->work.walk->by_source ? fetch_error_key(batch) : skip->key;
	StoreSession store;

	store_begin(&store);
	if (!store_skip_batch(&store, session->walk_id, batch, key,
						  claim_claimant(skip->worker).token, skip->error,
						  skip->repair_error))
		taken_over(skip->worker);
	note_skip(skip, &store);
	store_end(&store);
}

/*
 * In a transaction of its own: leave the batch in hand out, which is one row.
 * The argument is a Skip.
 */
void
divide_skip(Session *session, void *arg)
{
	Skip	   *skip = (Skip *) arg;
	RunSettings *settings = &session->settings;
	HookEvent	event = claim_event(skip->worker, "failed", skip->error->message);
	StoreSession store;
	int64		errors;
	int64		rows;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	skip->key = divide_find_row(skip->worker);
	hook_change(session, &event, leave_out, skip);
	store_begin(&store);
	store_error_counts(&store, session->walk_id, &errors, &rows);
	store_end(&store);
	session_commit(session);

	/* not before it is committed, or another try would have no event */
	strlcpy(skip->worker->hand.last_skipped, unpack_sql_state(skip->error->sqlerrcode),
			sizeof(skip->worker->hand.last_skipped));
	skip->too_many = (settings->max_errors > 0 && errors > settings->max_errors) ||
		(errors + rows >= DIVIDE_JUDGED_ROWS &&
		 (double) errors / (errors + rows) * 1000000 > settings->max_error_rate);
	claim_leave_quarantine(&skip->worker->hand);
	claim_forget(skip->worker);
}
