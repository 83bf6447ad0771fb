/*-------------------------------------------------------------------------
 *
 * rate.c
 *	  Rate limits, and the ledger that holds a rate to them.
 *
 * A limit of N in a window of length L means that no window of that length,
 * wherever it begins, holds more than N.  The ledger keeps what was used in
 * buckets of a 126th of L.  An amount is put into the bucket of the moment at
 * which it was used up, and counts until a whole L has passed since the end of
 * that bucket; what a batch has in hand is reserved, and counts until it is
 * put into a bucket.  So the ledger errs by less than one per cent, and never
 * to the side of too much.
 *
 * Everything about ledgers is plain arithmetic on the caller's memory: the
 * caller holds the lock that protects it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "duration.h"
#include "rate.h"

#define WINDOW_MIN_MS		100
#define WINDOW_MAX_MS		(31 * DURATION_MS_PER_DAY)

/* ---- limits ---- */

/* The number of bytes, as pg_size_bytes reads it; -1 if it is none. */
int64
rate_parse_bytes(const char *text)
{
	volatile int64 result = -1;
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		result = DatumGetInt64(DirectFunctionCall1(pg_size_bytes,
												   CStringGetTextDatum(text)));
	}
	PG_CATCH();
	{
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();
	return result;
}

static int64
parse_rows(const char *text)
{
	char	   *end;
	int64		result;

	errno = 0;
	result = strtoll(text, &end, 10);
	while (isspace((unsigned char) *end))
		end++;
	return errno != 0 || end == text || *end != '\0' ? -1 : result;
}

/*
 * Read "3000 per 5 min", "200 per second", "20MB/s".  Returns false when the
 * text is no such thing, or out of range.  Needs no transaction.
 */
bool
rate_parse(const char *text, bool bytes, RateLimit *limit)
{
	const char *per = strstr(text, " per ");
	const char *window = per ? per + 5 : NULL;
	char	   *amount;
	double		ms;

	if (per == NULL)
	{
		per = strchr(text, '/');
		if (per == NULL)
			return false;
		window = per + 1;
	}
	while (isspace((unsigned char) *window))
		window++;
	amount = pnstrdup(text, per - text);
	limit->amount = bytes ? rate_parse_bytes(amount) : parse_rows(amount);

	/* "per second" is per one second */
	if (!duration_parse(isalpha((unsigned char) *window) ? psprintf("1 %s", window) : window, &ms))
		return false;
	if (limit->amount <= 0 || ms < WINDOW_MIN_MS || ms > WINDOW_MAX_MS)
		return false;
	limit->window = (int64) (ms + 0.5);
	return true;
}

/* The limit as a text for users. */
char *
rate_text(const RateLimit *limit, bool bytes)
{
	if (bytes)
		return psprintf("%s per %s",
						TextDatumGetCString(DirectFunctionCall1(pg_size_pretty,
																Int64GetDatum(limit->amount))),
						duration_text(limit->window));
	return psprintf(INT64_FORMAT " rows per %s", limit->amount, duration_text(limit->window));
}

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
		ledger->used = 0;
		ledger->newest = newest;
	}
	while (ledger->newest < newest)
	{
		int64	   *bucket;

		ledger->newest++;
		bucket = &ledger->buckets[ledger->newest % LEDGER_BUCKETS];
		ledger->used -= *bucket;
		*bucket = 0;
	}

	/* the oldest may be older than the ring makes it */
	for (int64 old = ledger->newest - LEDGER_BUCKETS + 1;
		 (old + 1) * ledger->width + ledger->window <= now; old++)
	{
		int64	   *bucket = &ledger->buckets[old % LEDGER_BUCKETS];

		ledger->used -= *bucket;
		*bucket = 0;
	}
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
