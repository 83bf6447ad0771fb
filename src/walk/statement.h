/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  The user's statement about the relation "batch", and our own queries.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_STATEMENT_H
#define BACKFILL_WALK_STATEMENT_H

#include "executor/tuptable.h"
#include "nodes/params.h"
#include "nodes/plannodes.h"
#include "utils/snapshot.h"

#include "settings/parameters.h"
#include "walk/walk.h"

/* Where one of our own queries wants the condition of the range. */
#define STATEMENT_RANGE		"\"" WALK_PLACE "\""

typedef struct Statement Statement;

/* How far a statement that is being run got; the caller's, filled in for him. */
typedef struct StatementProgress
{
	List	   *stmts;			/* PlannedStmt: what is being run, or NIL */
	struct QueryDesc *query;	/* that of them which is in the executor, or NULL */
	struct Trail *trail;		/* the caller's: where to note what is changed, or NULL */
	double		planning;		/* microseconds that making plans has taken, added up */
} StatementProgress;

/* What is done with a row of a query, or with a plan. */
typedef void (*StatementRow) (TupleTableSlot *slot, void *arg);

typedef void (*StatementPlan) (PlannedStmt *plan, const char *text,
							   ParamListInfo params, void *arg);

extern Statement *statement_prepare(const char *text, Walk *walk, const char *scope,
									const Parameters *parameters, RangeShape shape);
extern Statement *statement_prepare_beside(const char *what, const char *text, Walk *walk,
										   const char *scope, const Parameters *parameters,
										   RangeShape shape);
extern Statement *statement_prepare_own(const char *text, Walk *walk,
										const WalkRange *range, const char *scope,
										const Parameters *parameters);
extern void statement_keep(Statement *statement);
extern void statement_drop(Statement *statement);
extern const char *statement_text(const Statement *statement);
extern bool statement_is_multiple(Statement *statement);
extern int64 statement_progress(const StatementProgress *progress);
extern uint64 statement_execute(Statement *statement, ParamListInfo params,
								StatementProgress *progress);
extern bool statement_fetch(Statement *statement, ParamListInfo params,
							Snapshot snapshot, int ncolumns, Datum *values);
extern void statement_each_row(Statement *statement, ParamListInfo params,
							   Snapshot snapshot, StatementRow function, void *arg);
extern List *statement_queries(Statement *statement);
extern void statement_each_plan(Statement *statement, ParamListInfo params,
								StatementPlan function, void *arg);
extern double statement_estimate(const char *text, Walk *walk, const WalkRange *range,
								 ParamListInfo params);
extern void statement_check(Statement *statement);
extern ParamListInfo statement_params(Walk *walk, const Parameters *parameters);

#endif							/* BACKFILL_WALK_STATEMENT_H */
