/*-------------------------------------------------------------------------
 *
 * started.c
 *	  The run that this session has started last.
 *
 * backfill_start notes it, backfill_wait without a run waits for it.  A start that was
 * rolled back, with its transaction or to a savepoint, is none: what a transaction has
 * started is known by subtransaction until its end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "api/started.h"

/* The last run that a subtransaction has started. */
typedef struct Started
{
	int64		id;
	int			level;			/* of the subtransaction */
} Started;

static int64 last = 0;

/* At most one of each level, the innermost at the end; in TopTransactionContext. */
static List *pending = NIL;

/* Drop the last of the list. */
static void
drop_last(void)
{
	pending = list_delete_last(pending);
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			if (pending != NIL)
				last = ((Started *) llast(pending))->id;
			pending = NIL;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			pending = NIL;
			break;
		default:
			break;
	}
}

/* A subtransaction ends: what it has started is its parent's, or never was. */
static void
subxact_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	Started    *inner = pending ? llast(pending) : NULL;

	if (inner == NULL || inner->level < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		drop_last();
	if (event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	inner->level = level - 1;
	if (list_length(pending) > 1 &&
		((Started *) list_nth(pending, list_length(pending) - 2))->level == inner->level)
		pending = list_delete_nth_cell(pending, list_length(pending) - 2);
}

/* The run was started, in the current transaction. */
void
started_note(int64 id)
{
	static bool registered = false;
	int			level = GetCurrentTransactionNestLevel();
	MemoryContext old;
	Started    *started;

	if (!registered)
	{
		RegisterXactCallback(xact_callback, NULL);
		RegisterSubXactCallback(subxact_callback, NULL);
		registered = true;
	}
	if (pending && ((Started *) llast(pending))->level == level)
		drop_last();
	old = MemoryContextSwitchTo(TopTransactionContext);
	started = palloc(sizeof(Started));
	*started = (Started) {id, level};
	pending = lappend(pending, started);
	MemoryContextSwitchTo(old);
}

/* The run started last of those whose transactions have committed, or 0. */
int64
started_last(void)
{
	return last;
}
