/*-------------------------------------------------------------------------
 *
 * run.h
 *	  The rows of runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_RUN_H
#define BACKFILL_STORE_RUN_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "store/definition.h"
#include "store/status.h"
#include "store/store.h"

/* Every statement of a stage is done. */
#define STAGE_DONE (-1)

/* What is run once in a run, and how far it is. */
typedef struct StageInfo
{
	bool		is_given;
	int			step;			/* statements of it that are done, or STAGE_DONE */
	char	   *text;			/* NULL for none, and in the head of a run */
} StageInfo;

/*
 * A row of backfill.run.  The last part, the owner's texts and values, is not
 * read, and zero, where a function says that it returns the head of a run.
 */
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
	bool		generic;		/* the target was given at the start */
	Jsonb	   *settings;
	StageInfo	stages[STAGES];
	bool		verified;
	bool		has_followers;
	ArrayType  *after;			/* NULL for none */
	TimestampTz start_at;		/* DT_NOBEGIN if null */
	TimestampTz started_at;		/* likewise */
	TimestampTz since;			/* likewise */
	TimestampTz until;			/* likewise */
	int64		pass_after;		/* batches up to it are of earlier passes */
	int64		rollup_number;	/* batches up to it are added up in the row */
	ArrayType  *end_key;		/* NULL until the ends are known */
	char	   *stream;			/* name of that which is in hand, or NULL */
	char	   *wait_reason;
	char	   *requested_by;	/* NULL if backfill itself asked */
	char	   *request_reason;
	char	   *error;			/* of a run that failed or is to */
	char	   *sqlstate;
	int64		batch_size;		/* that was found for it, or 0 */
	char	   *throttled_by;	/* NULL if it is not */
	int			closings;		/* workers at its end, or gone without a word */
	int64		resumed_number; /* of the last batch when it was last resumed, or 0 */
	TimestampTz resumed_at;		/* DT_NOBEGIN if null */
	bool		is_dormant;		/* was started paused, and not resumed since */
	bool		has_streams;	/* it is divided into walks of their own */
	bool		has_shares;		/* each value of share_by is a walk of its own */
	bool		by_clients;		/* there is no statement: clients do the work */
	SourceInfo	source;

	char	   *statement;		/* NULL if clients do the work */
	char	   *scope;
	char	   *key;
	char	   *search_path;
	ArrayType  *key_types;		/* NULL until the ends are known */
	ArrayType  *start_key;		/* likewise */
	Jsonb	   *parameters;		/* values */
	Jsonb	   *parameter_types;
	Jsonb	   *followers;			/* NULL for none */
	ArrayType  *conditions;		/* for clients, or NULL */
	char	   *streams;		/* what it is divided into; NULL for one walk */
} RunInfo;

/* What a round of the scheduler asks of every run. */
typedef struct RunDue
{
	int64		id;
	RunStatus	status;
	bool		is_requested;
	TimestampTz start_at;		/* DT_NOBEGIN if null */
} RunDue;

/* A run, and whose it is. */
typedef struct RunOwner
{
	int64		id;
	Oid			owner;
} RunOwner;

/* A pass of a walk by pages. */
typedef struct PassInfo
{
	int			number;
	int64		rows;			/* that it has processed */
	int64		errors;			/* rows that it has skipped */
	char	   *skipped;		/* the places where they were, as the text of an array */
} PassInfo;

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
	int64		rows_affected;
	int64		errors;			/* rows left out */
	int64		in_scope;		/* rows that were in scope, as a verification has shown; or -1 */
	double		rows_per_second;	/* -1 while unknown */
	char	   *duration;		/* NULL unless it has ended */
	bool		is_local;
	bool		paused_itself;	/* wait_reason says why */
	Oid			owner;
	Oid			target;
} RunProgress;

extern int64 store_insert_run(StoreSession *session, const DefinitionInfo *def,
							  Oid started_by, Jsonb *parameters, Jsonb *parameter_types,
							  Jsonb *settings, RunStatus status, TimestampTz start_at,
							  ArrayType *after);
extern RunInfo *store_load_run(StoreSession *session, int64 id, bool for_update);
extern RunInfo *store_try_run(StoreSession *session, int64 id);
extern RunInfo *store_lock_run(StoreSession *session, int64 id);
extern List *store_active_runs(StoreSession *session);
extern RunOwner *store_control_runs(StoreSession *session, uint64 *n);
extern RunOwner *store_run_owners(StoreSession *session, ArrayType *ids, uint64 *n);
extern void store_delete_run(StoreSession *session, int64 id);
extern void store_set_status(StoreSession *session, int64 id, RunStatus status);
extern void store_request(StoreSession *session, int64 id, RunStatus requested,
						  bool immediate, const char *role, const char *reason);
extern void store_cancel_request(StoreSession *session, int64 id);
extern void store_set_error(StoreSession *session, int64 id, const RunError *error);
extern void store_adopt_run(StoreSession *session, int64 id);
extern void store_set_settings(StoreSession *session, int64 id, Jsonb *settings);
extern void store_set_wait_reason(StoreSession *session, int64 id, const char *reason);
extern void store_pass(StoreSession *session, int64 id, PassInfo *pass);
extern void store_begin_pass(StoreSession *session, int64 id, ArrayType *start_key,
							 ArrayType *end_key, double rows);
extern void store_set_ends(StoreSession *session, int64 id, ArrayType *key_names,
						   ArrayType *key_types, ArrayType *start_key,
						   ArrayType *end_key, double rows_total);
extern void store_rollup(StoreSession *session, int64 id);
extern RunProgress *store_progress(StoreSession *session, int64 id);
extern void store_set_remaining(StoreSession *session, int64 id, int64 rows,
								bool verified);
extern int64 store_run_rows(StoreSession *session, int64 id);
extern int64 store_run_errors(StoreSession *session, int64 id);
extern int	store_note_closing(StoreSession *session, int64 id, bool begins, int64 boot,
							   bool clean_start);
extern int64 store_unmet_dependency(StoreSession *session, ArrayType *after,
									char **status);

#endif							/* BACKFILL_STORE_RUN_H */
