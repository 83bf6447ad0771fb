/*-------------------------------------------------------------------------
 *
 * catalog_sql.h
 *	  Running the SQL texts of catalog.c; for the catalog_*.c files only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_CATALOG_SQL_H
#define BACKFILL_CATALOG_SQL_H

#include "catalog.h"

typedef enum SqlId
{
	SQL_LOAD_DEFINITION,
	SQL_STORE_DEFINITION,
	SQL_LOCK_DEFINITION,
	SQL_DELETE_DEFINITION,
	SQL_FIND_ACTIVE_RUN,
	SQL_LAST_STARTED,
	SQL_INSERT_RUN,
	SQL_LOAD_RUN,
	SQL_LOCK_RUN,
	SQL_TRY_RUN,
	SQL_PENDING_DUE,
	SQL_ACTIVE_RUNS,
	SQL_CONTROL_RUNS,
	SQL_DELETE_RUN,
	SQL_DELETE_BATCHES,
	SQL_SET_STATUS,
	SQL_REQUEST,
	SQL_SET_ERROR,
	SQL_ADOPT_RUN,
	SQL_SET_SETTINGS,
	SQL_SET_WAIT_REASON,
	SQL_SET_BATCH_SIZE,
	SQL_SET_THROTTLE,
	SQL_NOTE_YIELD,
	SQL_RECENT_BATCHES,
	SQL_SET_ENDS,
	SQL_ROLLUP,
	SQL_PROGRESS,
	SQL_LAST_BATCH,
	SQL_INSERT_BATCH,
	SQL_TAKE_PENDING,
	SQL_COMPLETE_BATCH,
	SQL_GIVE_BACK_BATCH,
	SQL_RETRY_BATCH,
	SQL_RECOVER_BATCHES,
	SQL_REOPEN_BATCHES,
	SQL_OPEN_BATCHES,
	SQL_SHRINK_BATCH,
	SQL_INSERT_PART,
	SQL_SKIP_BATCH,
	SQL_STORE_ERROR,
	SQL_RESOLVE_ERROR,
	SQL_ERROR_COUNTS,
	SQL_MARK_RESUMED,
	SQL_REOPEN_SKIPPED,
	SQL_RECOUNT,
	SQL_DELETE_ERRORS,
	SQL_ADD_EVENT,
	SQL_PRUNE_EVENTS,
	SQL_PRUNE_BATCHES,
	SQL_PRUNE_ERRORS,
	SQL_ADD_HOOK,
	SQL_DELETE_HOOK,
	SQL_DELETE_HOOKS,
	SQL_LOAD_HOOKS,
	SQL_HAS_HOOK,
	SQL_FIND_EQUAL_RUN,
	SQL_FIND_TARGET_RUN,
	SQL_SET_REMAINING,
	SQL_SET_FINISH_STEP,
	SQL_RUN_ROWS,
	SQL_RUN_ERRORS,
	SQL_NOTE_CLOSING,
	SQL_UNMET_DEPENDENCY,
	SQL_FIND_DEPENDENT,
	SQL_THEN_REACHES
} SqlId;

extern uint64 catalog_sql(SqlId id, Datum *values, const char *nulls);
extern Datum catalog_column(int row, int column, bool *isnull);
extern char *catalog_text(CatalogSession *session, int row, int column);
extern void *catalog_varlena(CatalogSession *session, int row, int column);
extern Datum catalog_text_or_null(const char *text, char *null);

#endif							/* BACKFILL_CATALOG_SQL_H */
