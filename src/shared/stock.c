/*-------------------------------------------------------------------------
 *
 * stock.c
 *	  Batches that are cut for clients, and may be claimed.
 *
 * A worker of the run cuts ranges ahead, in the owner's session, so that a claim runs
 * nothing of the owner's and waits for no lock: it takes a number from this ring, and
 * the row decides whether the batch is still there to be had.  What is in the ring is
 * a hint; after a restart it is filled from the table again.
 *
 * The rows of a batch count as reserved from the claim on, and as used when it is
 * completed: whatever a client does, it does in between, so that no window of a rate
 * limit sees more than it allows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "shared/allowance.h"
#include "shared/lease.h"
#include "shared/pace.h"
#include "shared/segment.h"
#include "shared/stock.h"

/* When to ask again, where nothing says when it may be different. */
#define ASK_AGAIN_MS		1000
#define ASK_SOON_MS			100

/* Wake the workers of the run, which look at the stock then.  The caller holds the lock. */
static void
wake_workers_of(Oid database, int64 run_id)
{
	for (int i = 0; i < segment->nworkers; i++)
	{
		if (segment_works_for(&segment_workers[i], database, run_id) && segment_workers[i].latch)
			SetLatch(segment_workers[i].latch);
	}
}

/* Wake the workers of the run, which have to look into the tables. */
void
stock_tell(Oid database, int64 run_id)
{
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	if (run)
	{
		segment_note_pending(run);
		wake_workers_of(database, run_id);
	}
	segment_unlock();
}

/* ---- the client's side ---- */

/* The first of the ring is to be had, if nothing speaks against it.  The caller holds the lock. */
static StockAnswer
take(RunSlot *run, StockTaken *taken, TimestampTz *retry_at)
{
	TimestampTz now = GetCurrentTimestamp();
	Stock	   *stock = &run->stock;

	*retry_at = TimestampTzPlusMilliseconds(now, ASK_AGAIN_MS);
	if (!stock->open)
	{
		*retry_at = TimestampTzPlusMilliseconds(now, ASK_SOON_MS);
		return STOCK_CLOSED;
	}
	if (pace_holds(&run->pace))
		return STOCK_HELD;
	if (stock->max_out > 0 && stock->out >= stock->max_out)
	{
		*retry_at = TimestampTzPlusMilliseconds(now, ASK_SOON_MS);
		return STOCK_OUT;
	}
	if (stock->n == 0)
	{
		if (stock->ended)
			return STOCK_ENDED;
		*retry_at = TimestampTzPlusMilliseconds(now, ASK_SOON_MS);
		stock->looked = true;
		wake_workers_of(run->database, run->run_id);
		return STOCK_EMPTY;
	}
	taken->entry = stock->ring[stock->first];
	if (!allowance_grant(run, taken->entry.rows, &taken->reserved, retry_at))
		return STOCK_LIMITED;
	stock->first = (stock->first + 1) % STOCK_SIZE;
	stock->n--;
	stock->out++;
	if (stock->n == stock->aim / 2)
		wake_workers_of(run->database, run->run_id);
	return STOCK_TAKEN;
}

/*
 * Take a batch for a client, and reserve its rows; what has been taken must be put back,
 * dropped or settled.  Otherwise *retry_at is when to ask again.
 */
StockAnswer
stock_take(Oid database, int64 run_id, StockTaken *taken, TimestampTz *retry_at)
{
	StockAnswer answer = STOCK_CLOSED;
	RunSlot    *run;

	*retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ASK_AGAIN_MS);
	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	if (run)
		answer = take(run, taken, retry_at);
	segment_unlock();
	return answer;
}

/*
 * Whether a client may fetch a page now, for which so many calls count, from now on and
 * whatever becomes of it.  Otherwise *retry_at is when to ask again.
 */
StockAnswer
stock_call(Oid database, int64 run_id, int64 calls, TimestampTz *retry_at)
{
	StockAnswer answer = STOCK_TAKEN;
	RunSlot    *run;
	int64		reserved;

	*retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ASK_AGAIN_MS);
	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	if (run == NULL)
		answer = STOCK_CLOSED;
	else if (pace_holds(&run->pace))
		answer = STOCK_HELD;
	else if (calls > 0 && !allowance_grant(run, calls, &reserved, retry_at))
		answer = STOCK_LIMITED;
	else if (calls > 0)
		allowance_use(run, reserved, calls, 0);
	segment_unlock();
	return answer;
}

/*
 * From now on who finds the stock empty can wait until batches have been added to it, or to
 * another one, without missing that.
 */
void
stock_begin_wait(void)
{
	ConditionVariablePrepareToSleep(&segment->stocked);
}

/* Wait so many milliseconds at most.  Returns false if that time is over. */
bool
stock_wait(long ms)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = compat_wait_event("BackfillWaitForBatch");
	return !ConditionVariableTimedSleep(&segment->stocked, ms, wait_event);
}

void
stock_end_wait(void)
{
	ConditionVariableCancelSleep();
}

/* One batch less is out, or one more.  The caller holds the lock. */
static void
count_out(RunSlot *run, int change)
{
	if (run)
		run->stock.out = Max(run->stock.out + change, 0);
}

/* What has been taken is not wanted after all: the next client may have it. */
void
stock_put_back(Oid database, int64 run_id, const StockTaken *taken)
{
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	allowance_return(run, taken->reserved);
	count_out(run, -1);
	if (run && run->stock.open && run->stock.n < STOCK_SIZE)
	{
		run->stock.first = (run->stock.first + STOCK_SIZE - 1) % STOCK_SIZE;
		run->stock.ring[run->stock.first] = taken->entry;
		run->stock.n++;
	}

	/* workers may have looked for it, and passed it over */
	if (run)
		segment_note_pending(run);
	segment_unlock();
}

/* What has been taken is not there any more, or is to be looked for in the table. */
void
stock_drop(Oid database, int64 run_id, int64 reserved)
{
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	allowance_return(run, reserved);
	count_out(run, -1);
	segment_unlock();
}

/*
 * A client has so many rows in its hands of which nothing was known, since the server
 * has been started.
 */
void
stock_keep(Oid database, int64 run_id, int64 rows)
{
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	allowance_return(run, -rows);
	count_out(run, 1);
	segment_unlock();
}

/*
 * A client is through with its batch: it has used so many rows and has written so much
 * WAL.  The batch is done, or else it is for a worker to say what comes of it.  It counts as
 * out, unless nobody knew of it since a restart, or its lease was taken away a moment ago.
 */
void
stock_settle(Oid database, int64 run_id, bool counted, int64 reserved, int64 rows_scanned,
			 int64 rows_affected, int64 wal_bytes, bool done)
{
	RunSlot    *run;

	segment_lock(LW_EXCLUSIVE);
	run = segment_find_run(database, run_id);
	allowance_use(run, reserved, rows_affected, wal_bytes);
	if (counted)
		count_out(run, -1);
	if (run && done)
		run->rows_scanned += rows_scanned;
	else if (run)
		segment_note_pending(run);
	if (run && (!done || (run->stock.n == 0 && run->stock.out == 0)))
		wake_workers_of(database, run_id);
	segment_unlock();
}

/*
 * The run, or, if that is 0, every run of the database, is gone: so are the leases of clients,
 * which nobody would take out any more.
 */
void
stock_forget(Oid database, int64 run_id)
{
	RunSlot    *run;
	int64		n;
	int64		rows;

	lease_forget(database, run_id, &n, &rows);
	if (n == 0)
		return;
	segment_lock(LW_EXCLUSIVE);
	run = run_id == 0 ? NULL : segment_find_run(database, run_id);
	allowance_return(run, rows);
	if (run)
		run->stock.out = Max(run->stock.out - n, 0);
	segment_unlock();
}

/* How many batches of the run are out. */
int64
stock_out(Oid database, int64 run_id)
{
	int64		out;
	int64		rows;

	lease_count(database, run_id, &out, &rows);
	return out;
}

/* ---- the worker's side ---- */

/* The stock of the worker's run; the caller holds the lock. */
static Stock *
my_stock(void)
{
	WorkerSlot *w = segment_my_worker();
	RunSlot    *run = segment_find_run(w->database, w->run_id);

	return run ? &run->stock : NULL;
}

/* Clients take part in the worker's run; so many batches may be out, or any number if 0. */
void
stock_open(int64 max_out)
{
	Stock	   *stock;

	segment_lock(LW_EXCLUSIVE);
	stock = my_stock();
	if (stock)
	{
		stock->open = true;
		stock->max_out = max_out;
		stock->aim = Max(stock->aim, STOCK_LEAST);
	}
	segment_unlock();
}

/* Whether every range of the walk that may be cut is. */
void
stock_end(bool ended)
{
	Stock	   *stock;

	segment_lock(LW_EXCLUSIVE);
	stock = my_stock();
	if (stock)
		stock->ended = ended;
	segment_unlock();
}

/* Whether that is so, and no batch is there to be claimed. */
bool
stock_has_ended(void)
{
	Stock	   *stock;
	bool		ended;

	segment_lock(LW_SHARED);
	stock = my_stock();
	ended = stock && stock->ended;
	segment_unlock();
	return ended;
}

/*
 * How many batches are to be added: none as long as half of what there should be is
 * there.  It should be more when clients have found nothing.
 */
int
stock_missing(void)
{
	Stock	   *stock;
	int			missing = 0;

	segment_lock(LW_EXCLUSIVE);
	stock = my_stock();
	if (stock && stock->open)
	{
		if (stock->looked)
			stock->aim = Min(stock->aim * 2, STOCK_SIZE);
		stock->looked = false;
		if (stock->n <= stock->aim / 2)
			missing = stock->aim - stock->n;
	}
	segment_unlock();
	return missing;
}

/* The entry so far behind the first one. */
static StockEntry *
entry_at(Stock *stock, int i)
{
	return &stock->ring[(stock->first + i) % STOCK_SIZE];
}

/* Where the batch is in the ring, or -1. */
static int
find(Stock *stock, int64 number, int part)
{
	for (int i = 0; i < stock->n; i++)
	{
		if (entry_at(stock, i)->number == number && entry_at(stock, i)->part == part)
			return i;
	}
	return -1;
}

/* This worker has taken the batch itself; mostly it is the first. */
void
stock_remove(int64 number, int part)
{
	Stock	   *stock;
	int			i;

	segment_lock(LW_EXCLUSIVE);
	stock = my_stock();
	i = stock ? find(stock, number, part) : -1;
	if (i >= 0)
	{
		for (; i > 0; i--)
			*entry_at(stock, i) = *entry_at(stock, i - 1);
		stock->first = (stock->first + 1) % STOCK_SIZE;
		stock->n--;
	}
	segment_unlock();
}

/* Batches that are pending: what is not in the ring already is added, as far as there is room. */
void
stock_add(const StockEntry *entries, int n)
{
	Stock	   *stock;

	segment_lock(LW_EXCLUSIVE);
	stock = my_stock();
	for (int i = 0; stock && i < n && stock->n < STOCK_SIZE; i++)
	{
		if (find(stock, entries[i].number, entries[i].part) >= 0)
			continue;
		*entry_at(stock, stock->n) = entries[i];
		stock->n++;
	}
	segment_unlock();
	if (n > 0)
		ConditionVariableBroadcast(&segment->stocked);
}
