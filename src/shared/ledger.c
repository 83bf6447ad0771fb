/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  The ledger that holds a rate to its limit.
 *
 * A limit of N in a window of length L means that no window of that length,
 * wherever it begins, holds more than N.  The ledger keeps what was used in
 * buckets of a 126th of L.  An amount is put into the bucket of the moment at
 * which it was used up, and counts until a whole L has passed since the end of
 * that bucket; what a batch has in hand is reserved, and counts until it is
 * put into a bucket.  So the ledger errs by less than one per cent, and never
 * to the side of too much.
 *
 * Plain arithmetic on the caller's memory: the caller holds the lock that
 * protects it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/quantity.h"
#include "shared/ledger.h"

/* ---- the ledger ---- */

/* Begin anew, for that limit; what is reserved stays so. */
void
ledger_open(RateLedger *ledger, const RateLimit *limit)
{
	int64		reserved = ledger->reserved;

	memset(ledger, 0, sizeof(RateLedger));
	ledger->reserved = reserved;
	if (limit->amount == 0)
		return;
	ledger->window = limit->window * 1000;
	ledger->width = Max(ledger->window / (LEDGER_BUCKETS - 2), 1);
}

/* What is in the bucket no longer counts. */
static void
drop(RateLedger *ledger, int64 *bucket)
{
	ledger->used -= *bucket;
	ledger->expired += *bucket;
	*bucket = 0;
}

/* Forget what no longer counts. */
static void
expire(RateLedger *ledger, TimestampTz now)
{
	int64		newest = now / ledger->width;

	/* the clock was set back: what was used counts from now */
	if (ledger->newest - newest > LEDGER_BUCKETS / 8)
	{
		memset(ledger->buckets, 0, sizeof(ledger->buckets));
		ledger->newest = newest;
		ledger->buckets[newest % LEDGER_BUCKETS] = ledger->used;
	}
	if (newest - ledger->newest >= LEDGER_BUCKETS)
	{
		memset(ledger->buckets, 0, sizeof(ledger->buckets));
		ledger->expired += ledger->used;
		ledger->used = 0;
		ledger->newest = newest;
	}
	while (ledger->newest < newest)
	{
		int64	   *bucket;

		ledger->newest++;
		bucket = &ledger->buckets[ledger->newest % LEDGER_BUCKETS];
		drop(ledger, bucket);
	}

	/* the oldest may be older than the ring makes it */
	for (int64 old = ledger->newest - LEDGER_BUCKETS + 1;
		 (old + 1) * ledger->width + ledger->window <= now; old++)
		drop(ledger, &ledger->buckets[old % LEDGER_BUCKETS]);
}

/* So much was used up at that time, which may be in the past. */
void
ledger_add(RateLedger *ledger, TimestampTz at, int64 amount, TimestampTz now)
{
	int64		number;

	if (ledger->window == 0 || amount <= 0)
		return;
	expire(ledger, now);
	number = Min(at / ledger->width, ledger->newest);
	if ((number + 1) * ledger->width + ledger->window <= now ||
		number <= ledger->newest - LEDGER_BUCKETS)
		return;
	ledger->buckets[number % LEDGER_BUCKETS] += amount;
	ledger->used += amount;
}

/*
 * For a limit that may have changed its window; what was used counts from now.
 * One that is taken away may come back: the ledger goes on.
 */
void
ledger_refit(RateLedger *ledger, const RateLimit *limit, TimestampTz now)
{
	int64		used;

	if (limit->amount == 0 || ledger->window == limit->window * 1000)
		return;
	if (ledger->window != 0)
		expire(ledger, now);
	used = ledger->used;
	ledger_open(ledger, limit);
	ledger_add(ledger, now, used, now);
}

/* What is left of the amount; may be negative. */
int64
ledger_left(RateLedger *ledger, int64 amount, TimestampTz now)
{
	expire(ledger, now);
	return amount - ledger->used - ledger->reserved;
}

/* When something will no longer count; DT_NOEND if nothing does. */
TimestampTz
ledger_next_expiry(RateLedger *ledger, TimestampTz now)
{
	expire(ledger, now);
	for (int64 old = Max(ledger->newest - LEDGER_BUCKETS + 1, 0); old <= ledger->newest; old++)
	{
		if (ledger->buckets[old % LEDGER_BUCKETS] != 0)
			return (old + 1) * ledger->width + ledger->window;
	}
	return DT_NOEND;
}

/*
 * When one who needs so much, and finds less left, is to ask again: each part of what expires
 * is promised to one of those who wait, so that they do not all come for the same.  A promise
 * binds nobody; who comes first has it.  DT_NOEND if so much is not in the buckets.
 */
TimestampTz
ledger_promise(RateLedger *ledger, int64 amount, int64 left, TimestampTz now)
{
	int64		sum;
	int64		upto;

	expire(ledger, now);
	sum = ledger->expired;
	upto = ledger->promised > sum ? ledger->promised + amount : sum + amount - Max(left, 0);
	for (int64 old = Max(ledger->newest - LEDGER_BUCKETS + 1, 0); old <= ledger->newest; old++)
	{
		sum += ledger->buckets[old % LEDGER_BUCKETS];
		if (sum < upto)
			continue;
		ledger->promised = upto;
		return (old + 1) * ledger->width + ledger->window;
	}
	return DT_NOEND;
}
