/*-------------------------------------------------------------------------
 *
 * lapse.c
 *	  Leases of clients: known again after a restart, and taken back when they are over.
 *
 * A lease that has run out makes its batch pending again.  The row decides: who is just
 * completing the batch has it locked, and is waited for; who comes later finds that it is
 * not his.  In shared memory the lease ends when that is committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run/lapse.h"
#include "shared/lease.h"
#include "shared/metrics.h"
#include "shared/stock.h"
#include "store/event.h"
#include "store/ledger.h"
#include "store/lease.h"
#include "store/rowlease.h"

/* A lease that is over, and what its batch was done with, if it had a ledger and was. */
typedef struct Lapsed
{
	const Lease *lease;
	LedgerDone *done;
} Lapsed;

/* A lease lasts between these, in milliseconds. */
#define LEASE_LEAST_MS		100
#define LEASE_MOST_MS		(INT64CONST(7) * 86400 * 1000)

/* The length of a lease in milliseconds, or an error. */
int64
lapse_milliseconds(const Interval *length)
{
	double		ms = length->time / 1000.0 + (length->day + length->month * 30.0) * 86400000;

	if (!(ms >= LEASE_LEAST_MS && ms <= LEASE_MOST_MS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a lease must last between 100 ms and 7 days")));
	return (int64) ms;
}

/*
 * Enter a lease of which only the row knows, for its full length from now on.  One of a
 * session, which is gone, is over at once.  Returns its length in milliseconds.
 */
int64
lapse_restore(int64 run_id, const LeasedBatch *batch)
{
	TimestampTz now = GetCurrentTimestamp();
	Lease		lease = {
		.key = lease_key(run_id, batch->number, batch->part),
		.token = batch->token,
		.secret = batch->secret,
		.role = batch->role,
		.committed = true,
		.rows = batch->rows,
		.length = batch->length ? lapse_milliseconds(batch->length) : 0,
		.since = now
	};

	lease.until = lease.length == 0 ? now : TimestampTzPlusMilliseconds(now, lease.length);
	strlcpy(lease.client, batch->client ? batch->client : "", LEASE_NAME_SIZE);
	if (lease_enter(&lease, NULL))
		stock_keep(MyDatabaseId, run_id, lease.rows);
	return lease.length;
}

/*
 * Take the batch back, and put it down.  Returns whether its lease is over; *done is the batch if
 * all of it is done, and otherwise NULL.
 */
static bool
take_back(StoreSession *session, const RunInfo *run, const Lease *lease, LedgerDone **done)
{
	BatchInfo	batch = {.number = lease->key.number, .part = lease->key.part};
	EventInfo	event = {.kind = "takeover", .batch = &batch};
	LapseResult result = store_lapse_batch(session, run->id, batch.number, batch.part, lease->token);

	*done = NULL;
	if (result == LAPSE_UNCONFIRMED)
		*done = ledger_close_batch(session, run->id, batch.number, batch.part, "unconfirmed");
	if (result == LAPSE_DONE || result == LAPSE_UNCONFIRMED)
	{
		event.reason = psprintf(run->immediate ? "taken from client \"%s\", because the run is to stop at once%s" :
								lease->length == 0 ? "the session of client \"%s\" has ended%s" :
								"the lease of client \"%s\" ran out%s", lease->client,
								result == LAPSE_DONE ? "" :
								"; what it has not confirmed is in backfill_unconfirmed");
		store_add_event(session, run, &event);
	}
	return result != LAPSE_BUSY;
}

/* Whether one of the batches is out with the lease. */
static bool
is_backed(const Lease *lease, List *batches)
{
	ListCell   *lc;

	foreach(lc, batches)
	{
		const LeasedBatch *batch = lfirst(lc);

		if (batch->number == lease->key.number && batch->part == lease->key.part)
			return batch->token == lease->token;
	}
	return false;
}

/*
 * Make shared memory agree with the rows: leases of which only the rows know are entered,
 * and those that no row has are left over from a run with the same id, of an extension
 * that was dropped.
 */
static void
take_stock(StoreSession *session, int64 run_id)
{
	Lease	   *copies;
	int			n = lease_copy(MyDatabaseId, &copies);	/* before the rows are read */
	List	   *batches = store_leased_batches(session, run_id);
	ListCell   *lc;

	for (int i = 0; i < n; i++)
	{
		Lease		removed;

		if (copies[i].key.run_id == run_id && !is_backed(&copies[i], batches) &&
			lease_remove(&copies[i].key, copies[i].token, &removed))
			stock_settle(MyDatabaseId, run_id, true, removed.rows, 0, 0, 0, false);
	}
	pfree(copies);
	foreach(lc, batches)
		(void) lapse_restore(run_id, lfirst(lc));
}

/*
 * Take back what the leases that are over were about; all of the run, if it is to stop at
 * once.  The first look after a start finds those of which only the rows know.  Returns
 * those that are over, for lapse_done, in the memory context that the session returns to.
 */
List *
lapse_review(StoreSession *session, const RunInfo *run, bool first)
{
	List	   *over = NIL;
	List	   *lapsed;
	ListCell   *lc;
	MemoryContext old;

	if (first)
	{
		rowlease_forget(session, run->id);
		take_stock(session, run->id);
	}
	old = MemoryContextSwitchTo(session->caller);
	lapsed = lease_lapsed(run->id, run->is_requested && run->immediate);
	MemoryContextSwitchTo(old);
	foreach(lc, lapsed)
	{
		const Lease *lease = lfirst(lc);
		LedgerDone *done;
		Lapsed	   *entry;

		if (!take_back(session, run, lease, &done))
			continue;
		old = MemoryContextSwitchTo(session->caller);
		entry = palloc(sizeof(Lapsed));
		*entry = (Lapsed) {lease, done};
		over = lappend(over, entry);
		MemoryContextSwitchTo(old);
	}
	return over;
}

/*
 * That is committed: the leases are over.  What their rows were for may have been done, so
 * they count as used; for monitoring, only what was done counts.  Returns whether there were any.
 */
bool
lapse_done(List *over)
{
	ListCell   *lc;

	foreach(lc, over)
	{
		const Lapsed *lapsed = lfirst(lc);
		const Lease *lease = lapsed->lease;
		const LedgerDone *done = lapsed->done;
		Lease		removed;

		if (lease_remove(&lease->key, lease->token, &removed))
			stock_settle(lease->key.database, lease->key.run_id, true, removed.rows, 0,
						 removed.rows, 0, false);
		if (done)
			metrics_count_batch(done->owner, NameStr(done->name), done->rows, done->wal_bytes,
								done->duration);
	}
	return over != NIL;
}

/*
 * Without shared memory: take back the batches whose leases are over, as the rows say, or all
 * of the run, which is to stop at once.
 */
void
lapse_rows(StoreSession *session, const RunInfo *run, bool all)
{
	ListCell   *lc;

	foreach(lc, rowlease_take_back(session, run->id, all))
	{
		const LeasedBatch *leased = lfirst(lc);
		BatchInfo	batch = {.number = leased->number, .part = leased->part};
		EventInfo	event = {
			.kind = "takeover",
			.batch = &batch,
			.reason = psprintf(all ? "taken from client \"%s\", because the run is to stop at once" :
							   "the lease of client \"%s\" ran out", leased->client)
		};

		store_add_event(session, run, &event);
	}
}
