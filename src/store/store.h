/*-------------------------------------------------------------------------
 *
 * store.h
 *	  Being the owner of the extension, and running a text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_STORE_H
#define BACKFILL_STORE_STORE_H

#include "executor/spi.h"

#define STORE_MAX_ARGS 24

/*
 * What has a run's number for its walk has that of a stream in a run with streams; those
 * are negative.
 */
#define STORE_IS_STREAM(id) ((id) < 0)

/* One SQL text, beside the function that runs it; prepared when it first does. */
typedef struct Sql
{
	const char *text;
	int			nargs;
	Oid			types[STORE_MAX_ARGS];
	SPIPlanPtr	plan;
} Sql;

/* What is done with a row, its columns in a memory context that is gone afterwards. */
typedef void (*StoreRow) (const Datum *values, const bool *isnull, void *arg);

/* The time for which the run was throttled until then, by reason, in seconds. */
#define STORE_THROTTLED_UNTIL(then) \
	"jsonb_set(throttle_times, ARRAY[split_part(throttled_by, ':', 1)], " \
	"to_jsonb(round(coalesce((throttle_times ->> split_part(throttled_by, ':', 1))::numeric, 0) " \
	"+ extract(epoch FROM " then " - throttled_since), 3)))"

/*
 * Batches that may not have ended are those after the ones added up.  The upper bound tells
 * the planner that these are few: of all that is above something unknown it expects a third,
 * and would read the whole table.
 */
#define STORE_OPEN_BATCHES \
	"run_id = $1 AND number > (SELECT rollup_number FROM backfill.walk WHERE id = $1) " \
	"AND number < 9223372036854775807"

/*
 * A client lets go of a batch, and nobody knows what it has done: all of it counts for the
 * rate limit, also when shared memory has forgotten.
 */
#define STORE_COUNT_FAILED \
	"failed_at = clock_timestamp(), " \
	"failed_rows = coalesce(failed_rows, 0) + coalesce(rows_in_scope, rows_scanned)"

/* Between store_begin and store_end we are the extension's owner. */
typedef struct StoreSession
{
	Oid			saved_userid;
	int			saved_context;
	int			nest;
	MemoryContext caller;		/* where results go */
} StoreSession;

extern bool store_lock_extension(void);
extern void store_begin(StoreSession *session);
extern void store_end(StoreSession *session);
extern uint64 store_sql(Sql *sql, Datum *values, const char *nulls);
extern int	store_lock_first(Sql *sql, Datum *values, const char *nulls);
extern void store_each(Sql *sql, Datum *values, StoreRow function, void *arg);
extern Datum store_column(int row, int column, bool *isnull);
extern TimestampTz store_time(int row, int column);
extern char *store_text(StoreSession *session, int row, int column);
extern void *store_varlena(StoreSession *session, int row, int column);
extern Datum store_text_or_null(const char *text, char *null);
extern Datum store_note_or_null(const char *text, char *null);

#endif							/* BACKFILL_STORE_STORE_H */
