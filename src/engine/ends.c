/*-------------------------------------------------------------------------
 *
 * ends.c
 *	  Where a walk begins and where it ends.
 *
 * The ends are fixed when a run begins, after waiting, as CREATE INDEX
 * CONCURRENTLY does, for the transactions that hold a lock for writing on the
 * target: what is committed then is between them.  Rows that are written later
 * are the affair of the application.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "engine/ends.h"
#include "engine/session.h"
#include "engine/work.h"
#include "settings/setting.h"
#include "shared/segment.h"
#include "shared/worker_slot.h"
#include "store/run.h"
#include "store/store.h"
#include "walk/bounds.h"
#include "walk/key.h"
#include "walk/walk.h"

/* How often to look whether the writers of the target have ended. */
#define WRITERS_POLL_MS		100

/* The transactions that hold a lock for writing on the target or a child. */
static List *
find_writers(Oid target)
{
	List	   *writers = NIL;
	List	   *relations = find_all_inheritors(target, NoLock, NULL);
	ListCell   *lc;

	foreach(lc, relations)
	{
		LOCKTAG		tag;
		VirtualTransactionId *vxids;
		int			n;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(lc));
		vxids = GetLockConflicts(&tag, ShareLock, &n);
		for (int i = 0; i < n; i++)
		{
			VirtualTransactionId *vxid;

			/* a vacuum writes no rows, and may take hours */
			if (compat_vxid_in_vacuum(vxids[i]))
				continue;
			vxid = palloc(sizeof(VirtualTransactionId));
			*vxid = vxids[i];
			writers = lappend(writers, vxid);
		}
	}
	return writers;
}

/* Take those that have ended out of the list. */
static List *
still_writing(List *all)
{
	ListCell   *lc;

	foreach(lc, all)
	{
		VirtualTransactionId *vxid = lfirst(lc);

		if (!VirtualXactLock(*vxid, false))
			continue;
		all = foreach_delete_current(all, lc);
		pfree(vxid);
	}
	return all;
}

static char *
writers_reason(List *writers)
{
	StringInfoData buf;
	int			shown = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "waits for %d transaction%s that wrote to the table when the run began",
					 list_length(writers), list_length(writers) == 1 ? "" : "s");
	foreach(lc, writers)
	{
		int			pid = compat_vxid_pid(*(VirtualTransactionId *) lfirst(lc));

		if (shown++ >= 5)
			break;
		appendStringInfoString(&buf, shown == 1 ? ": " : ", ");
		if (pid != 0)
			appendStringInfo(&buf, "process %d", pid);
		else
			appendStringInfoString(&buf, "a prepared transaction");
	}
	return buf.data;
}

/* Those that have been found, and whether the run says that it waits for them. */
typedef struct Writers
{
	bool		looked;
	List	   *left;			/* VirtualTransactionId *, in the session's context */
	bool		said;
} Writers;

/* One look at the writers, in a transaction of its own. */
static void
look_at_writers(Session *session, void *arg)
{
	Writers    *writers = (Writers *) arg;
	MemoryContext old;

	session_begin(session);
	old = MemoryContextSwitchTo(session->context);
	if (!writers->looked)
		writers->left = find_writers(session->run->target);
	writers->looked = true;
	writers->left = still_writing(writers->left);
	MemoryContextSwitchTo(old);
	if (writers->left != NIL && !writers->said)
	{
		StoreSession store;
		char	   *reason = writers_reason(writers->left);

		store_begin(&store);
		store_set_wait_reason(&store, session->run->id, reason);
		store_end(&store);
		writers->said = true;
	}
	session_commit(session);
}

/*
 * Wait until every transaction that holds a lock for writing on the target
 * has ended: what they write is then visible, and covered.  Returns false if
 * the run is to stop meanwhile.
 */
bool
ends_wait_for_writers(Session *session)
{
	Writers		writers = {0};

	for (;;)
	{
		ErrorData  *error = session_try(session, look_at_writers, &writers);

		if (error)
			ReThrowError(error);
		if (writers.left == NIL)
			return true;
		worker_slot_show(WORKER_WAITING, 0, 0);
		if (!session_nap(WRITERS_POLL_MS) && !session_reload(session))
			return false;
		MemoryContextReset(session->loop_context);
	}
}

/* The names of the key's columns, as an array of texts. */
static ArrayType *
key_names(const Walk *walk)
{
	Datum		names[INDEX_MAX_KEYS];

	for (int i = 0; i < walk->nkeys; i++)
		names[i] = CStringGetTextDatum(walk->columns[i].name);
	return construct_array(names, walk->nkeys, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * The first and the last key, as texts, and the estimate of the rows between.  In the current
 * transaction and memory context, with the server parameters of the statement in force.
 */
void
ends_of_walk(Session *session, Work *work, WalkTexts *texts)
{
	const RunSettings *settings = &session->settings;
	WalkEnds	ends;

	(void) bounds_find_ends(work->walk, settings->from, settings->to, settings->limit,
							session->run->scope, work->parameters, &ends);
	texts->rows = ends.rows;
	texts->start = texts->end = construct_empty_array(TEXTOID);
	if (ends.values)
	{
		texts->start = key_to_text(work->walk, ends.start);
		texts->end = key_to_text(work->walk, ends.end);
	}
	if (ends.nulls)
	{
		texts->end = key_with_nulls(work->walk, ends.values ? texts->end : NULL);
		texts->start = ends.values ? texts->start : texts->end;
	}
}

/*
 * In a transaction of its own: find the ends, and put them into the row of the run.
 */
void
ends_find(Session *session, Work *work)
{
	StoreSession store;
	WalkTexts	texts;
	int			nest;

	session_begin(session);
	MemoryContextSwitchTo(session->loop_context);
	nest = session_enter_statement(session);
	ends_of_walk(session, work, &texts);
	AtEOXact_GUC(false, nest);

	store_begin(&store);
	store_set_ends(&store, session->run->id, key_names(work->walk), walk_key_types(work->walk),
				   texts.start, texts.end, texts.rows);
	store_end(&store);
	session_commit(session);
}
