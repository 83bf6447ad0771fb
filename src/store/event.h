/*-------------------------------------------------------------------------
 *
 * event.h
 *	  The rows of events and hooks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_EVENT_H
#define BACKFILL_STORE_EVENT_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "base/callee.h"
#include "store/batch.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

/* What happened to a run; what is NULL or 0 does not apply. */
typedef struct EventInfo
{
	const char *kind;
	const char *previous_status;
	const char *status;
	const char *stream;			/* NULL for that of the run, if it has one in hand */
	const BatchInfo *batch;
	const char *role;			/* that caused it, NULL for backfill itself */
	const char *sqlstate;
	const char *reason;
} EventInfo;

/* A lifecycle hook. */
typedef struct HookInfo
{
	char	   *phase;
	char	   *object;
	char	   *status;
	Callee		callee;

	/* of one that is there */
	Oid			created_by;
	bool		is_for_all;		/* definitions */
} HookInfo;

extern void store_add_event(StoreSession *session, const RunInfo *run,
							const EventInfo *event);
extern bool store_has_event(StoreSession *session, int64 run_id, const char *kind);
extern void store_prune(StoreSession *session, TimestampTz before);
extern int64 store_count_hooks(StoreSession *session, const char *name);
extern bool store_add_hook(StoreSession *session, const HookInfo *hook,
						   const char *name, Oid created_by);
extern bool store_delete_hook(StoreSession *session, const HookInfo *hook,
							  const char *name);
extern List *store_load_hooks(StoreSession *session, const char *name, Oid owner);
extern bool store_has_hook(StoreSession *session, const char *name, Oid owner,
						   RunStatus status);

#endif							/* BACKFILL_STORE_EVENT_H */
