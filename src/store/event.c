/*-------------------------------------------------------------------------
 *
 * event.c
 *	  The rows of events and hooks.
 *
 * Called between store_begin and store_end; results are in the memory context that
 * was current at store_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/event.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

/*
 * The hooks for the runs of a definition.  Whoever took the name of a definition
 * that was dropped has no say in the runs that it left.
 */
#define HOOK_OF \
	"(name IS NULL OR name = $1 AND EXISTS (SELECT FROM backfill.definition d " \
	"WHERE d.name = $1 AND d.owner = $2::regrole))"

/*
 * Runs that were completed long ago, locked: one that somebody is about to retry
 * keeps what says where it was.
 */
#define OLD_RUNS \
	"WITH old_runs AS (SELECT id FROM backfill.run WHERE status = 'completed' " \
	"AND requested IS NULL AND finished_at < $1 FOR UPDATE SKIP LOCKED), " \
	"old AS (SELECT id FROM old_runs UNION ALL " \
	"SELECT s.id FROM backfill.stream s JOIN old_runs o ON o.id = s.run_id) "

/* ---- events ---- */

static Sql sql_add_event = {
	"INSERT INTO backfill.event (run_id, name, owner, kind, previous_status, status, "
	"       number, part, role, sqlstate, reason, stream) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
	12, {INT8OID, TEXTOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT4OID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID}
};

/* Put down what happened to the run. */
void
store_add_event(StoreSession *session, const RunInfo *run, const EventInfo *event)
{
	char		nulls[] = "            ";
	Datum		args[] = {
		Int64GetDatum(run->id),
		CStringGetTextDatum(run->name),
		ObjectIdGetDatum(run->owner),
		CStringGetTextDatum(event->kind),
		store_text_or_null(event->previous_status, &nulls[4]),
		store_text_or_null(event->status, &nulls[5]),
		Int64GetDatum(event->batch ? event->batch->number : 0),
		Int32GetDatum(event->batch ? event->batch->part : 0),
		store_text_or_null(event->role, &nulls[8]),
		store_text_or_null(event->sqlstate, &nulls[9]),
		store_note_or_null(event->reason, &nulls[10]),
		store_text_or_null(event->stream ? event->stream : run->stream, &nulls[11])
	};

	if (event->batch == NULL)
		nulls[6] = nulls[7] = 'n';
	store_sql(&sql_add_event, args, nulls);
}

static Sql sql_has_event = {
	"SELECT FROM backfill.event WHERE run_id = $1 AND kind = $2 LIMIT 1",
	2, {INT8OID, TEXTOID}
};

/* Whether there is an event of that kind of the run. */
bool
store_has_event(StoreSession *session, int64 run_id, const char *kind)
{
	Datum		args[] = {Int64GetDatum(run_id), CStringGetTextDatum(kind)};

	return store_sql(&sql_has_event, args, NULL) > 0;
}

static Sql sql_prune_events = {
	"DELETE FROM backfill.event WHERE at < $1",
	1, {TIMESTAMPTZOID}
};

static Sql sql_prune_errors = {
	OLD_RUNS "DELETE FROM backfill.error e USING old WHERE e.run_id = old.id",
	1, {TIMESTAMPTZOID}
};

static Sql sql_prune_pages = {
	OLD_RUNS "DELETE FROM backfill.page p USING old WHERE p.run_id = old.id",
	1, {TIMESTAMPTZOID}
};

static Sql sql_prune_batches = {
	OLD_RUNS "DELETE FROM backfill.batch b USING old WHERE b.run_id = old.id",
	1, {TIMESTAMPTZOID}
};

static Sql sql_prune_shares = {
	OLD_RUNS "DELETE FROM backfill.share s USING old WHERE s.run_id = old.id",
	1, {TIMESTAMPTZOID}
};

static Sql sql_prune_ledger = {
	OLD_RUNS "DELETE FROM backfill.ledger l USING old WHERE l.run_id = old.id",
	1, {TIMESTAMPTZOID}
};

/*
 * Forget events from before that time, and the batches, ledgers and errors of runs that
 * were completed before it.  What failed or was stopped may be resumed, and
 * its batches say where.
 */
void
store_prune(StoreSession *session, TimestampTz before)
{
	Datum		args[] = {TimestampTzGetDatum(before)};

	store_sql(&sql_prune_events, args, NULL);
	store_sql(&sql_prune_errors, args, NULL);
	store_sql(&sql_prune_ledger, args, NULL);
	store_sql(&sql_prune_shares, args, NULL);
	store_sql(&sql_prune_pages, args, NULL);
	store_sql(&sql_prune_batches, args, NULL);
}

/* ---- hooks ---- */

static Sql sql_add_hook = {
	"INSERT INTO backfill.hook (phase, object, status, function_schema, function_name, "
	"       function_owner, name, created_by) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
	8, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, OIDOID, TEXTOID, OIDOID}
};

/*
 * Add a hook for the runs of the definition, or of all if name is NULL.  Returns
 * false when it is there.
 */
bool
store_add_hook(StoreSession *session, const HookInfo *hook, const char *name,
				 Oid created_by)
{
	char		nulls[] = "        ";
	Datum		args[] = {
		CStringGetTextDatum(hook->phase),
		CStringGetTextDatum(hook->object),
		CStringGetTextDatum(hook->status),
		CStringGetTextDatum(hook->callee.schema),
		CStringGetTextDatum(hook->callee.name),
		ObjectIdGetDatum(hook->callee.owner),
		store_text_or_null(name, &nulls[6]),
		ObjectIdGetDatum(created_by)
	};

	return store_sql(&sql_add_hook, args, nulls) > 0;
}

static Sql sql_count_hooks = {
	"SELECT count(*) FROM backfill.hook WHERE name IS NOT DISTINCT FROM $1",
	1, {TEXTOID}
};

/* How many hooks there are for the definition, or for all runs if name is NULL. */
int64
store_count_hooks(StoreSession *session, const char *name)
{
	char		nulls[] = " ";
	Datum		args[] = {store_text_or_null(name, &nulls[0])};

	store_sql(&sql_count_hooks, args, nulls);
	return DatumGetInt64(store_column(0, 1, NULL));
}

static Sql sql_delete_hook = {
	"DELETE FROM backfill.hook WHERE phase = $1 AND object = $2 AND status = $3 "
	"   AND function_schema = $4 AND function_name = $5 AND name IS NOT DISTINCT FROM $6",
	6, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
};

/* Delete it.  Returns false when it is not there. */
bool
store_delete_hook(StoreSession *session, const HookInfo *hook, const char *name)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		CStringGetTextDatum(hook->phase),
		CStringGetTextDatum(hook->object),
		CStringGetTextDatum(hook->status),
		CStringGetTextDatum(hook->callee.schema),
		CStringGetTextDatum(hook->callee.name),
		store_text_or_null(name, &nulls[5])
	};

	return store_sql(&sql_delete_hook, args, nulls) > 0;
}

static Sql sql_load_hooks = {
	"SELECT phase, object, status, function_schema, function_name, function_owner::oid, "
	"       created_by::oid, name IS NULL FROM backfill.hook "
	" WHERE " HOOK_OF " ORDER BY name IS NULL, id",
	2, {TEXTOID, OIDOID}
};

/*
 * The hooks for that owner's runs of the definition, in the order in which they
 * are called.
 */
List *
store_load_hooks(StoreSession *session, const char *name, Oid owner)
{
	Datum		args[] = {CStringGetTextDatum(name), ObjectIdGetDatum(owner)};
	uint64		n = store_sql(&sql_load_hooks, args, NULL);
	List	   *result = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		HookInfo   *hook = MemoryContextAllocZero(session->caller, sizeof(HookInfo));
		MemoryContext old;

		hook->phase = store_text(session, i, 1);
		hook->object = store_text(session, i, 2);
		hook->status = store_text(session, i, 3);
		hook->callee.schema = store_text(session, i, 4);
		hook->callee.name = store_text(session, i, 5);
		hook->callee.owner = DatumGetObjectId(store_column(i, 6, NULL));
		hook->created_by = DatumGetObjectId(store_column(i, 7, NULL));
		hook->is_for_all = DatumGetBool(store_column(i, 8, NULL));
		old = MemoryContextSwitchTo(session->caller);
		result = lappend(result, hook);
		MemoryContextSwitchTo(old);
	}
	return result;
}

static Sql sql_has_hook = {
	"SELECT FROM backfill.hook "
	" WHERE object = 'run' AND status = $3 AND " HOOK_OF " LIMIT 1",
	3, {TEXTOID, OIDOID, TEXTOID}
};

/* Whether a change of such a run to the status has one. */
bool
store_has_hook(StoreSession *session, const char *name, Oid owner, RunStatus status)
{
	Datum		args[] = {
		CStringGetTextDatum(name),
		ObjectIdGetDatum(owner),
		CStringGetTextDatum(status_name(status))
	};

	return store_sql(&sql_has_hook, args, NULL) > 0;
}
