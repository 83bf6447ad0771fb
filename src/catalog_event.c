/*-------------------------------------------------------------------------
 *
 * catalog_event.c
 *	  The rows of events and hooks.
 *
 * The SQL texts are in catalog.c.  Everything here is called between
 * catalog_begin and catalog_end; results are in the memory context that was
 * current at catalog_begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog_sql.h"

/* ---- events ---- */

/* Put down what happened to the run. */
void
catalog_add_event(CatalogSession *session, const RunInfo *run, const EventInfo *event)
{
	char		nulls[] = "           ";
	Datum		args[] = {
		Int64GetDatum(run->id),
		CStringGetTextDatum(run->name),
		ObjectIdGetDatum(run->owner),
		CStringGetTextDatum(event->kind),
		catalog_text_or_null(event->previous_status, &nulls[4]),
		catalog_text_or_null(event->status, &nulls[5]),
		Int64GetDatum(event->batch ? event->batch->number : 0),
		Int32GetDatum(event->batch ? event->batch->part : 0),
		catalog_text_or_null(event->role, &nulls[8]),
		catalog_text_or_null(event->sqlstate, &nulls[9]),
		catalog_text_or_null(event->reason, &nulls[10])
	};

	if (event->batch == NULL)
		nulls[6] = nulls[7] = 'n';
	catalog_sql(SQL_ADD_EVENT, args, nulls);
}

/*
 * Forget events from before that time, and the batches and errors of runs that
 * were completed before it.  What failed or was stopped may be resumed, and
 * its batches say where.
 */
void
catalog_prune(CatalogSession *session, TimestampTz before)
{
	Datum		args[] = {TimestampTzGetDatum(before)};

	catalog_sql(SQL_PRUNE_EVENTS, args, NULL);
	catalog_sql(SQL_PRUNE_ERRORS, args, NULL);
	catalog_sql(SQL_PRUNE_BATCHES, args, NULL);
}

/* ---- hooks ---- */

/*
 * Add a hook for the runs of the definition, or of all if name is NULL.  Returns
 * false when it is there.
 */
bool
catalog_add_hook(CatalogSession *session, const HookInfo *hook, const char *name,
				 Oid created_by)
{
	char		nulls[] = "      ";
	Datum		args[] = {
		CStringGetTextDatum(hook->phase),
		CStringGetTextDatum(hook->object),
		CStringGetTextDatum(hook->status),
		ObjectIdGetDatum(hook->function),
		catalog_text_or_null(name, &nulls[4]),
		ObjectIdGetDatum(created_by)
	};

	return catalog_sql(SQL_ADD_HOOK, args, nulls) > 0;
}

/* Delete it.  Returns false when it is not there. */
bool
catalog_delete_hook(CatalogSession *session, const HookInfo *hook, const char *name)
{
	char		nulls[] = "     ";
	Datum		args[] = {
		CStringGetTextDatum(hook->phase),
		CStringGetTextDatum(hook->object),
		CStringGetTextDatum(hook->status),
		ObjectIdGetDatum(hook->function),
		catalog_text_or_null(name, &nulls[4])
	};

	return catalog_sql(SQL_DELETE_HOOK, args, nulls) > 0;
}

/*
 * The hooks for that owner's runs of the definition, in the order in which they
 * are called.
 */
List *
catalog_load_hooks(CatalogSession *session, const char *name, Oid owner)
{
	Datum		args[] = {CStringGetTextDatum(name), ObjectIdGetDatum(owner)};
	uint64		n = catalog_sql(SQL_LOAD_HOOKS, args, NULL);
	List	   *result = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		HookInfo   *hook = MemoryContextAlloc(session->caller, sizeof(HookInfo));
		MemoryContext old;

		hook->phase = catalog_text(session, i, 1);
		hook->object = catalog_text(session, i, 2);
		hook->status = catalog_text(session, i, 3);
		hook->function = DatumGetObjectId(catalog_column(i, 4, NULL));
		old = MemoryContextSwitchTo(session->caller);
		result = lappend(result, hook);
		MemoryContextSwitchTo(old);
	}
	return result;
}

/* Whether a change of such a run to the status has one. */
bool
catalog_has_hook(CatalogSession *session, const char *name, Oid owner, RunStatus status)
{
	Datum		args[] = {
		CStringGetTextDatum(name),
		ObjectIdGetDatum(owner),
		CStringGetTextDatum(status_name(status))
	};

	return catalog_sql(SQL_HAS_HOOK, args, NULL) > 0;
}
