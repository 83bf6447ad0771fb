/*-------------------------------------------------------------------------
 *
 * share.c
 *	  Whose turn it is among the values of share_by.
 *
 * Each value of the first key column is a walk of its own.  The next batch is that of the
 * value which has had the fewest rows, for its weight; so whoever has few rows is done
 * before who has many is far.  A value that has used up its limit is passed over until it
 * may go on, and keeps its place.
 *
 * What is in memory follows the table, and is read again after an error or when another
 * worker was at it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "engine/failure.h"
#include "engine/share.h"
#include "settings/settings.h"
#include "store/share.h"
#include "walk/key.h"
#include "walk/values.h"

/* So many values are looked for in one transaction. */
#define FIND_AT_ONCE		1000
/* How many there may be. */
#define SHARES_MOST			1000000

/* A value, and its turn. */
typedef struct Share
{
	ShareInfo	info;
	double		weight;
	double		turn;			/* rows for its weight */
	int64		used;			/* of its limit, as of the last look */
} Share;

struct Shares
{
	MemoryContext context;		/* holds all of it */
	Share	   *items;			/* by their number, from 1 */
	int			n;
	binaryheap *heap;			/* of Share *, those with rows left, the next one first */
	List	   *aside;			/* Share *, passed over in this turn */
	Share	   *current;		/* of which a batch is being cut */
	int64		used_from;		/* number of the first batch that may count */
};

/* ---- finding the values ---- */

/* The value of the key's first column, as text. */
static char *
first_value(ArrayType *key)
{
	bool		isnull;
	int			index = 1;
	Datum		value = array_get_element(PointerGetDatum(key), 1, &index, -1, -1, false,
										  TYPALIGN_INT, &isnull);

	return isnull ? pstrdup("") : TextDatumGetCString(value);
}

/* In a transaction of its own: find the next values.  The argument is the worker. */
static void
find_some(Session *session, void *arg)
{
	Worker	   *worker = (Worker *) arg;
	RunInfo    *run = session->run;
	StoreSession store;
	ShareInfo  *last;
	ShareInfo	share = {0};
	Values	   *values;
	int			nest;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	claim_lock(worker);
	store_begin(&store);
	last = share_last(&store, run->id);
	store_end(&store);
	nest = session_enter_statement(session);
	PushActiveSnapshot(GetLatestSnapshot());
	values = values_prepare(worker->work.walk);
	share.id = last ? last->id : 0;
	worker->shares_found = last && key_is_last(last->end_key, run->end_key);
	for (int i = 0; i < FIND_AT_ONCE && !worker->shares_found; i++)
	{
		ArrayType  *next;

		CHECK_FOR_INTERRUPTS();
		share.start_key = last ? values_next_key(values, last->end_key, run->end_key, GetActiveSnapshot()) :
			run->start_key;
		if (share.start_key == NULL)
		{
			/* the last row of the walk has been deleted meanwhile: what is left is empty */
			share.start_key = run->end_key;
		}
		/* where there are but nulls, they are one value */
		next = ARR_HASNULL(share.start_key) ? NULL :
			values_next_key(values, share.start_key, run->end_key, GetActiveSnapshot());
		share.end_key = next ? values_last_key(values, share.start_key, GetActiveSnapshot()) : run->end_key;
		if (share.end_key == NULL)
			share.end_key = share.start_key;
		share.id++;
		share.value = first_value(share.start_key);
		if (share.id > SHARES_MOST)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("\"share_by\" has more than %d values", SHARES_MOST)));
		store_begin(&store);
		share_insert(&store, run->id, &share);
		store_end(&store);
		last = palloc(sizeof(ShareInfo));
		*last = share;
		worker->shares_found = key_is_last(share.end_key, run->end_key);
	}
	values_drop(values);
	PopActiveSnapshot();
	AtEOXact_GUC(false, nest);
	session_commit(session);
}

/* Find all values between the ends of the walk, unless that is done. */
void
share_find_all(Worker *worker)
{
	worker->shares_found = false;
	while (!worker->shares_found)
	{
		failure_insist(worker, find_some);
		session_check_interrupts();
		MemoryContextReset(worker->session.loop_context);
	}
}

/* ---- their turns ---- */

/* The heap has the largest first. */
static int
compare_turns(Datum a, Datum b, void *arg)
{
	const Share *first = (const Share *) DatumGetPointer(a);
	const Share *second = (const Share *) DatumGetPointer(b);

	if (first->turn != second->turn)
		return first->turn < second->turn ? 1 : -1;
	return first->info.id < second->info.id ? 1 : first->info.id > second->info.id ? -1 : 0;
}

static bool
is_left(const Share *share)
{
	return share->info.last_key == NULL || !key_is_last(share->info.last_key, share->info.end_key);
}

/* In a transaction of its own: read the values.  The argument is the worker. */
static void
load(Session *session, void *arg)
{
	Worker	   *worker = (Worker *) arg;
	MemoryContext context = AllocSetContextCreate(session->loop_context, "backfill shares",
												  ALLOCSET_DEFAULT_SIZES);
	struct Shares *shares;
	StoreSession store;
	List	   *infos;
	ListCell   *lc;
	MemoryContext old;

	session_begin(session);
	old = MemoryContextSwitchTo(context);
	store_begin(&store);
	infos = share_load(&store, session->run->id);
	store_end(&store);
	MemoryContextSwitchTo(context);
	shares = palloc0(sizeof(struct Shares));
	shares->context = context;
	shares->n = list_length(infos);
	shares->items = MemoryContextAllocHuge(context, sizeof(Share) * Max(shares->n, 1));
	shares->heap = binaryheap_allocate(Max(shares->n, 1), compare_turns, NULL);
	foreach(lc, infos)
	{
		Share	   *share = &shares->items[foreach_current_index(lc)];

		share->info = *(ShareInfo *) lfirst(lc);
		share->weight = settings_weight(&session->settings, share->info.value);
		share->turn = share->info.rows / share->weight;
		share->used = 0;
		if (is_left(share))
			binaryheap_add_unordered(shares->heap, PointerGetDatum(share));
	}
	binaryheap_build(shares->heap);
	MemoryContextSwitchTo(old);
	session_commit(session);

	/* without an error it is kept */
	MemoryContextSetParent(context, session->context);
	worker->shares = shares;
}

/* Read again what the values used of their limit.  The argument is the worker. */
static void
look_at_usage(Session *session, void *arg)
{
	struct Shares *shares = ((Worker *) arg)->shares;
	const RateLimit *limit = &session->settings.share_rate_limit;
	StoreSession store;
	List	   *usages;
	ListCell   *lc;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	store_begin(&store);
	usages = share_usage(&store, session->run->id,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -limit->window),
						 &shares->used_from);
	store_end(&store);
	session_commit(session);
	for (int i = 0; i < shares->n; i++)
		shares->items[i].used = 0;
	foreach(lc, usages)
	{
		const ShareUsage *usage = lfirst(lc);

		if (usage->id >= 1 && usage->id <= shares->n)
			shares->items[usage->id - 1].used = usage->rows;
	}
}

/* Before batches are cut: know whose turn it is.  Returns false if that cannot be known now. */
bool
share_begin_turn(Worker *worker)
{
	Session    *session = &worker->session;

	if (worker->shares == NULL && session_try(session, load, worker) != NULL)
		return false;
	return session->settings.share_rate_limit.amount == 0 ||
		session_try(session, look_at_usage, worker) == NULL;
}

/*
 * The value whose turn it is, with a batch of so many rows at most, or NULL if none may have
 * one now.  It has the turn until share_note_cut.
 */
const ShareInfo *
share_next(Worker *worker, int64 size)
{
	struct Shares *shares = worker->shares;
	int64		limit = worker->session.settings.share_rate_limit.amount;

	while (!binaryheap_empty(shares->heap))
	{
		Share	   *share = (Share *) DatumGetPointer(binaryheap_first(shares->heap));

		if (limit == 0 || share->used == 0 || share->used + size <= limit)
		{
			shares->current = share;
			return &share->info;
		}
		(void) binaryheap_remove_first(shares->heap);
		shares->aside = lappend(shares->aside, share);
	}
	return NULL;
}

/* A batch has been cut of the value that has the turn: it ends there and has so many rows. */
void
share_note_cut(Worker *worker, ArrayType *last_key, int64 rows)
{
	struct Shares *shares = worker->shares;
	Share	   *share = shares->current;
	MemoryContext old = MemoryContextSwitchTo(shares->context);

	if (share->info.last_key)
		pfree(share->info.last_key);
	share->info.last_key = DatumGetArrayTypePCopy(PointerGetDatum(last_key));
	MemoryContextSwitchTo(old);
	share->info.rows += rows;
	share->turn = share->info.rows / share->weight;
	share->used += rows;
	if (is_left(share))
		binaryheap_replace_first(shares->heap, PointerGetDatum(share));
	else
		(void) binaryheap_remove_first(shares->heap);
	shares->current = NULL;
}

/* Those that were passed over have their turn again next time. */
void
share_end_turn(Worker *worker)
{
	struct Shares *shares = worker->shares;
	ListCell   *lc;

	foreach(lc, shares->aside)
		binaryheap_add(shares->heap, PointerGetDatum(lfirst(lc)));
	list_free(shares->aside);
	shares->aside = NIL;
}

/* Whether any value has rows left, be it that it has to wait. */
bool
share_is_any_left(const Worker *worker)
{
	return worker->shares == NULL || !binaryheap_empty(worker->shares->heap);
}

/* What is in memory may be wrong: have it read again. */
void
share_forget(Worker *worker)
{
	if (worker->shares)
		MemoryContextDelete(worker->shares->context);
	worker->shares = NULL;
}
