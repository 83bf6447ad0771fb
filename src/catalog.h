/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  Access to the tables of the schema "backfill".
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_CATALOG_H
#define BACKFILL_CATALOG_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "status.h"

/* A row of backfill.definition.  Texts that may be null are NULL then. */
typedef struct DefinitionInfo
{
	char	   *name;
	Oid			owner;
	Oid			target;
	char	   *statement;
	char	   *scope;
	char	   *key;
	Jsonb	   *parameters;		/* declared */
	Jsonb	   *settings;
	char	   *search_path;
	char	   *description;
	char	   *finish;
	Jsonb	   *then;			/* NULL for none */
} DefinitionInfo;

/* Every statement of "finish" is done. */
#define FINISH_DONE (-1)

/* A row of backfill.run. */
typedef struct RunInfo
{
	int64		id;
	char	   *name;
	RunStatus	status;
	bool		is_requested;
	RunStatus	requested;
	bool		immediate;
	Oid			owner;
	bool		is_local;		/* belongs to this database and system */
	Oid			target;
	char	   *statement;
	char	   *scope;
	char	   *key;
	Jsonb	   *parameters;		/* values */
	Jsonb	   *parameter_types;
	Jsonb	   *settings;
	char	   *search_path;
	char	   *finish;
	int			finish_step;	/* statements of it that are done, or FINISH_DONE */
	bool		verified;
	Jsonb	   *then;			/* NULL for none */
	ArrayType  *after;			/* NULL for none */
	TimestampTz start_at;		/* DT_NOBEGIN if null */
	TimestampTz started_at;		/* likewise */
	TimestampTz since;			/* likewise */
	int64		rollup_number;	/* batches up to it are added up in the row */
	ArrayType  *key_types;		/* NULL until the ends are known */
	ArrayType  *start_key;		/* NULL until the ends are known */
	ArrayType  *end_key;
	char	   *wait_reason;
	char	   *requested_by;	/* NULL if backfill itself asked */
	char	   *request_reason;
	char	   *error;			/* of a run that failed or is to */
	char	   *sqlstate;
	int64		batch_size;		/* that was found for it, or 0 */
	char	   *throttled_by;	/* NULL if it is not */
} RunInfo;

/* A batch in hand. */
typedef struct BatchInfo
{
	int64		number;
	int			part;
	ArrayType  *start_key;
	ArrayType  *end_key;
	bool		start_inclusive;
	int			attempt;
	int			crashes;
	bool		had_error;		/* it may stand in backfill_errors */
	bool		announced;		/* the hooks for "running" were called */
	int			tries;			/* that met an error that may go away */
	int64		rows_scanned;
	int64		rows_in_scope;	/* at most, as far as is known; not kept in the table */
} BatchInfo;

/* What a completed batch did. */
typedef struct BatchResult
{
	int64		rows_affected;
	int64		wal_bytes;
	TimestampTz started_at;
	TimestampTz finished_at;
} BatchResult;

/* What a batch that was completed a moment ago used. */
typedef struct RecentBatch
{
	TimestampTz at;
	int64		rows;
	int64		wal_bytes;
} RecentBatch;

/* What happened to a run; what is NULL or 0 does not apply. */
typedef struct EventInfo
{
	const char *kind;
	const char *previous_status;
	const char *status;
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
	Oid			function;
} HookInfo;

/* An error as a run remembers it. */
typedef struct RunError
{
	const char *sqlstate;
	const char *message;
	const char *detail;
	const char *hint;
	const char *context;
} RunError;

/* Progress of a run as backfill_wait prints it. */
typedef struct RunProgress
{
	char	   *name;
	RunStatus	status;
	char	   *wait_reason;
	char	   *sqlstate;
	char	   *error;
	char	   *error_detail;
	char	   *error_hint;
	char	   *progress;
	char	   *eta;
	int64		rows_scanned;
	int64		rows_total;		/* -1 while unknown */
	double		rows_per_second;	/* -1 while unknown */
	Oid			owner;
} RunProgress;

/* Between catalog_begin and catalog_end we are the extension's owner. */
typedef struct CatalogSession
{
	Oid			saved_userid;
	int			saved_context;
	int			nest;
	MemoryContext caller;		/* where results go */
} CatalogSession;

extern bool catalog_lock_extension(void);
extern void catalog_begin(CatalogSession *session);
extern void catalog_end(CatalogSession *session);

extern DefinitionInfo *catalog_load_definition(CatalogSession *session, const char *name);
extern void catalog_store_definition(CatalogSession *session, const DefinitionInfo *def);
extern bool catalog_lock_definition(CatalogSession *session, const char *name);
extern void catalog_delete_definition(CatalogSession *session, const char *name);
extern int64 catalog_find_active_run(CatalogSession *session, const char *name);
extern TimestampTz catalog_last_started(CatalogSession *session, const DefinitionInfo *def);

extern int64 catalog_insert_run(CatalogSession *session, const DefinitionInfo *def,
								Oid started_by, Jsonb *parameters,
								Jsonb *parameter_types, Jsonb *settings,
								RunStatus status, TimestampTz start_at,
								ArrayType *after);
extern int64 catalog_unmet_dependency(CatalogSession *session, ArrayType *after,
									  char **status);
extern int64 catalog_find_dependent(CatalogSession *session, int64 id);
extern bool catalog_then_reaches(CatalogSession *session, Jsonb *then, const char *name);
extern RunInfo *catalog_load_run(CatalogSession *session, int64 id, bool for_update);
extern RunInfo *catalog_try_run(CatalogSession *session, int64 id);
extern List *catalog_active_runs(CatalogSession *session);
extern List *catalog_control_runs(CatalogSession *session);
extern void catalog_delete_run(CatalogSession *session, int64 id);
extern void catalog_set_status(CatalogSession *session, int64 id, RunStatus status);
extern void catalog_request(CatalogSession *session, int64 id, RunStatus requested,
							bool immediate, const char *role, const char *reason);
extern void catalog_cancel_request(CatalogSession *session, int64 id);
extern void catalog_set_error(CatalogSession *session, int64 id, const RunError *error);
extern void catalog_adopt_run(CatalogSession *session, int64 id);
extern void catalog_set_settings(CatalogSession *session, int64 id, Jsonb *settings);
extern void catalog_set_wait_reason(CatalogSession *session, int64 id, const char *reason);
extern void catalog_set_batch_size(CatalogSession *session, int64 id, int64 size);
extern void catalog_set_throttle(CatalogSession *session, int64 id, const char *reason);
extern void catalog_note_yield(CatalogSession *session, int64 id);
extern int	catalog_recent_batches(CatalogSession *session, int64 id, TimestampTz since,
								   TimestampTz until, RecentBatch **batches);
extern void catalog_set_ends(CatalogSession *session, int64 id, ArrayType *key_names,
							 ArrayType *key_types, ArrayType *start_key, ArrayType *end_key, double rows_total);
extern void catalog_rollup(CatalogSession *session, int64 id);
extern RunProgress *catalog_progress(CatalogSession *session, int64 id);

extern bool catalog_last_batch(CatalogSession *session, int64 run_id,
							   int64 *number, ArrayType **end_key);
extern void catalog_insert_batch(CatalogSession *session, int64 run_id,
								 const BatchInfo *batch, int64 token, int worker);
extern BatchInfo *catalog_take_pending(CatalogSession *session, int64 run_id,
									   int64 token, int worker, int crashes_below);
extern TimestampTz catalog_pending_due(CatalogSession *session, int64 run_id,
									   int crashes_below);
extern bool catalog_complete_batch(CatalogSession *session, int64 run_id,
								   const BatchInfo *batch, int64 token,
								   const BatchResult *result);
extern bool catalog_give_back_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
									int64 token, const char *status, const char *error);
extern void catalog_retry_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
								int64 token, TimestampTz retry_at, const char *error);
extern int	catalog_recover_batches(CatalogSession *session, int64 run_id,
									int64 *tokens, int ntokens,
									int64 boot, bool clean_start,
									int64 *worst, int *crashes);
extern int64 catalog_reopen_batches(CatalogSession *session, int64 run_id);
extern bool catalog_shrink_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
								 int64 token, ArrayType *start, int64 rows,
								 const char *error);
extern void catalog_insert_part(CatalogSession *session, int64 run_id, const BatchInfo *part,
								const char *error);
extern bool catalog_skip_batch(CatalogSession *session, int64 run_id, const BatchInfo *batch,
							   ArrayType *key, int64 token, const ErrorData *error);
extern void catalog_resolve_error(CatalogSession *session, int64 run_id, const BatchInfo *batch);
extern void catalog_error_counts(CatalogSession *session, int64 run_id,
								 int64 *errors, int64 *rows);
extern void catalog_mark_resumed(CatalogSession *session, int64 run_id);
extern int64 catalog_reopen_skipped(CatalogSession *session, int64 run_id);
extern int64 catalog_open_batches(CatalogSession *session, int64 run_id, int64 *due);

extern void catalog_add_event(CatalogSession *session, const RunInfo *run,
							  const EventInfo *event);
extern void catalog_prune(CatalogSession *session, TimestampTz before);
extern bool catalog_add_hook(CatalogSession *session, const HookInfo *hook,
							 const char *name, Oid created_by);
extern bool catalog_delete_hook(CatalogSession *session, const HookInfo *hook,
								const char *name);
extern List *catalog_load_hooks(CatalogSession *session, const char *name, Oid owner);
extern bool catalog_has_hook(CatalogSession *session, const char *name, Oid owner,
							 RunStatus status);
extern int64 catalog_find_equal_run(CatalogSession *session, const char *name,
									Oid owner, Jsonb *parameters, ArrayType *after,
									int64 except);
extern int64 catalog_find_target_run(CatalogSession *session, Oid target, ArrayType *after,
									 int64 except);
extern void catalog_set_remaining(CatalogSession *session, int64 id, int64 rows,
								  bool verified);
extern void catalog_set_finish_step(CatalogSession *session, int64 id, int step);
extern int	catalog_note_closing(CatalogSession *session, int64 id, bool begins,
								 int64 boot, bool clean_start);
extern int64 catalog_run_rows(CatalogSession *session, int64 id);
extern int64 catalog_run_errors(CatalogSession *session, int64 id);

#endif							/* BACKFILL_CATALOG_H */
