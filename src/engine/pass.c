/*-------------------------------------------------------------------------
 *
 * pass.c
 *	  A walk by pages comes again until nothing is left.
 *
 * A row that somebody changes while the run is under way moves, maybe to a page where the walk
 * has been.  So when every batch is done, the rows in scope are counted, all of them
 * with one snapshot, under which each row is in one place.  If there are any, the
 * walk begins anew; what it finds in scope nobody has processed.
 *
 * That holds as long as the statement ends the scope.  In its first batches
 * a worker looks, before it commits, whether a row that the statement has written is
 * in scope still.  What that does not show, shows when the pass is over: where as many rows are
 * left as it has processed, the run fails.
 *
 * A walk between bounds, or with a limit, is made once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "engine/ends.h"
#include "engine/pass.h"
#include "shared/wake.h"
#include "store/event.h"
#include "store/run.h"
#include "store/store.h"
#include "walk/bounds.h"
#include "walk/place.h"

/* So many rows of a worker's first batches are looked at, one of each. */
#define ROWS_LOOKED_AT	10

/*
 * Before the statement of one of a worker's first batches: choose a row, the first in scope of
 * the range.  In the batch's transaction, with the server parameters of the statement in force.
 */
void
pass_choose_row(Session *session, Work *work, const Datum *start, bool start_inclusive,
				const Datum *end)
{
	Datum		place;

	work->row_is_chosen = false;
	if (!work->walk->by_page || work->rows_looked_at >= ROWS_LOOKED_AT)
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	if (work_find_in_scope(session, work, start, start_inclusive, end, 0, &place))
	{
		work->row_is_chosen = true;
		ItemPointerCopy((ItemPointer) DatumGetPointer(place), &work->chosen_row);
	}
	PopActiveSnapshot();
}

/*
 * After the statement, in its transaction: raise an error if the row that was chosen was
 * written by it and is in scope.
 */
void
pass_check_row(Session *session, Work *work)
{
	FullTransactionId xid = GetTopFullTransactionIdIfAny();
	ItemPointerData place;
	bool		in_scope;

	if (!work->row_is_chosen || !FullTransactionIdIsValid(xid))
		return;
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	place = place_follow(work->walk->target, work->chosen_row, GetActiveSnapshot());
	in_scope = bounds_is_written(work->walk, session->run->scope, work->parameters,
								 PointerGetDatum(&place), XidFromFullTransactionId(xid));
	PopActiveSnapshot();
	if (in_scope)
		ereport(ERROR,
				(errcode(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION),
				 errmsg("the statement leaves rows in scope that it has processed"),
				 errdetail("A walk by pages comes again until nothing is in scope, so that it would process them again."),
				 errhint("Have the statement set what the scope asks for, or name an index in \"key\".")));
	work->rows_looked_at++;
}

/* The walk begins again, and the run goes on. */
static void
begin_again(Session *session, StoreSession *store, const PassInfo *pass, int64 left,
			const WalkTexts *ends)
{
	EventInfo	event = {
		.kind = "pass",
		.reason = psprintf("pass %d: rows that others have moved, or written since, are in scope: " INT64_FORMAT,
						   pass->number + 1, left)
	};

	store_begin_pass(store, session->run->id, ends->start, ends->end, ends->rows);
	store_cancel_request(store, session->run->id);
	store_add_event(store, session->run, &event);
	wake_at_commit((WakeTarget) {session->slot.owner, session->slot.run_id});
}

/* What there is to say about a pass, before its rows are counted. */
static void
read_pass(Session *session, PassInfo *pass)
{
	StoreSession store;

	store_begin(&store);
	store_pass(&store, session->run->id, pass);
	store_end(&store);
}

/*
 * In a transaction of its own: a pass is over.  Begin another if rows are in scope that nobody
 * has processed.  Those that failed are left, as many as they were; but where not all of them stand where
 * they failed, others may be left in their stead, and are looked for as long as
 * a pass finds any.  The argument is a PassEnd.  Raises an error if the statement does not end the scope.
 */
void
pass_end(Session *session, void *arg)
{
	PassEnd    *end = (PassEnd *) arg;
	Work	   *work = end->work;
	StoreSession store;
	PassInfo	pass;
	WalkTexts	ends;
	int64		left;
	int64		elsewhere;
	int			nest;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	read_pass(session, &pass);
	nest = session_enter_statement(session);
	PushActiveSnapshot(GetLatestSnapshot());
	left = bounds_count_whole(work->walk, session->run->scope, work->parameters, pass.skipped,
							  GetActiveSnapshot(), &elsewhere);
	PopActiveSnapshot();
	ends_of_walk(session, work, &ends);
	AtEOXact_GUC(false, nest);

	if (left > pass.errors && left >= pass.rows)
		ereport(ERROR,
				(errcode(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION),
				 errmsg(INT64_FORMAT " row%s still in scope after a pass that processed " INT64_FORMAT,
						left, left == 1 ? " is" : "s are", pass.rows),
				 errdetail("A walk by pages comes again until nothing is in scope, so that the statement has to end the scope of every row that it processes."),
				 errhint("Look at the rows that are left, and whether the application still writes such rows; then call backfill_resume, which counts again.")));
	end->again = left > pass.errors || (elsewhere > 0 && pass.rows > 0);
	if (end->again)
	{
		store_begin(&store);
		begin_again(session, &store, &pass, elsewhere, &ends);
		store_end(&store);
	}
	session_commit(session);
}
