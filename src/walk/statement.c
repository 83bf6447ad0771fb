/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  The user's statement about the relation "batch", and our own queries.
 *
 * What is grafted into the statement is the affair of graft.c.  Here the
 * statements are analysed, kept in the plan cache, planned and run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_coerce.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "parser/parse_type.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "portability/instr_time.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/position.h"
#include "settings/parameters.h"
#include "walk/analysed.h"
#include "walk/choice.h"
#include "walk/graft.h"
#include "walk/imply.h"
#include "walk/statement.h"
#include "walk/trail.h"
#include "walk/walk.h"

struct Statement
{
	const char *what;			/* for errors */
	const char *text;
	Graft	   *graft;
	List	   *sources;		/* CachedPlanSource, one a statement */
	PlanChoice *choices;		/* one for each of them; the user's only */
};

/* A receiver that keeps the last row. */
typedef struct LastRow
{
	DestReceiver pub;
	MemoryContext context;
	int			ncolumns;
	Datum	   *values;
	bool		found;
} LastRow;

/* A receiver that hands each row on. */
typedef struct EachRow
{
	DestReceiver pub;
	StatementRow function;
	void	   *arg;
} EachRow;

/* ---- preparing ---- */

/*
 * One plan serves every batch where nothing depends on the values of the key:
 * a range of one table without children.  A plan for all partitions serves none:
 * it locks and opens every one.  Elsewhere it is measured which is better.
 */
static int
choose_cursor_options(List *queries, Walk *walk)
{
	Query	   *query = list_length(queries) == 1 ? linitial_node(Query, queries) : NULL;

	if (walk->has_children)
		return CURSOR_OPT_CUSTOM_PLAN;
	if (query && !query->hasSubLinks &&
		!query->hasModifyingCTE && list_length(query->rtable) == 1)
		return CURSOR_OPT_GENERIC_PLAN;
	return 0;
}

static post_parse_analyze_hook_type next_post_parse_analyze = NULL;

/* A statement was analysed, for the first time or because a table has changed: one of the user's is told of its range. */
static void
imply_after_analysis(ParseState *pstate, Query *query, compat_jumble *jumble)
{
	Graft	   *graft = graft_of(pstate);

	if (next_post_parse_analyze)
		next_post_parse_analyze(pstate, query, jumble);
	if (graft && !graft->own)
		imply_range(query, graft->walk, &graft->range);
}

/* Have the parser tell us of statements, from now on, in this process. */
static void
follow_analysis(void)
{
	static bool installed = false;

	if (installed)
		return;
	next_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = imply_after_analysis;
	installed = true;
}

static CachedPlanSource *
make_source(RawStmt *raw, const char *text, Graft *graft, List **queries)
{
	CachedPlanSource *source = CreateCachedPlan(raw, text, CreateCommandTag(raw->stmt));

	follow_analysis();
	*queries = pg_analyze_and_rewrite_withcb(raw, text, graft_parser_setup, graft, NULL);
	CompleteCachedPlan(source, *queries, NULL, NULL, 0, graft_parser_setup, graft,
					   graft->own ? CURSOR_OPT_GENERIC_PLAN :
					   choose_cursor_options(*queries, graft->walk),
					   false);
	return source;
}

/* Analyse each statement of the text with batch grafted in, which it may have to refer to. */
static List *
prepare_sources(const char *text, Graft *graft, bool about_batch)
{
	List	   *sources = NIL;
	bool		mentioned = !about_batch;
	List	   *raws = raw_parser(text, RAW_PARSE_DEFAULT);
	ListCell   *lc,
			   *lc2;

	if (raws == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the statement of a backfill cannot be empty"),
				 errhint("Write for example \"UPDATE batch SET ...\".")));
	foreach(lc, raws)
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);
		List	   *queries;

		if (graft_into(raw, graft, text))
			mentioned = true;
		sources = lappend(sources, make_source(raw, text, graft, &queries));
		if (analysed_reads_batch(queries))
			mentioned = true;
		foreach(lc2, queries)
			analysed_check_key(lfirst_node(Query, lc2), graft->walk);
	}
	if (!mentioned)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the statement of a backfill must refer to the relation \"batch\""),
				 errdetail("It would do the same again in every batch."),
				 errhint("Write for example \"UPDATE batch SET ...\" instead of naming the table.")));
	return sources;
}

/* A statement of the user's, as the two functions below. */
static Statement *
prepare_user(const char *what, const char *text, Walk *walk, const char *scope,
			 const Parameters *parameters, RangeShape shape, bool about_batch)
{
	WalkRange	range = walk_range(walk, shape);
	Statement  *statement = palloc0(sizeof(Statement));
	PositionText context = {what, text};
	ErrorContextCallback callback;

	statement->what = what;
	statement->text = pstrdup(text);
	statement->graft = graft_make(walk, &range, scope, parameters, false);

	callback.callback = position_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	PushActiveSnapshot(GetTransactionSnapshot());
	statement->sources = prepare_sources(statement->text, statement->graft, about_batch);
	PopActiveSnapshot();
	error_context_stack = callback.previous;
	statement->choices = palloc0(sizeof(PlanChoice) * list_length(statement->sources));
	for (int i = 0; i < list_length(statement->sources); i++)
		statement->choices[i].fixed =
			((CachedPlanSource *) list_nth(statement->sources, i))->cursor_options != 0;
	return statement;
}

/*
 * Prepare the user's text, one statement or several, for batches whose range
 * has that shape.  Names are resolved under the current
 * search_path, with the current user's rights.  The result lives in the
 * current memory context.  Errors point into the text or into the scope.
 */
Statement *
statement_prepare(const char *text, Walk *walk, const char *scope,
				  const Parameters *parameters, RangeShape shape)
{
	return prepare_user("statement", text, walk, scope, parameters, shape, true);
}

/*
 * The same for what the user has run beside his statement, which may be about
 * batch or only about the parameters.
 */
Statement *
statement_prepare_beside(const char *what, const char *text, Walk *walk, const char *scope,
						 const Parameters *parameters, RangeShape shape)
{
	return prepare_user(what, text, walk, scope, parameters, shape, false);
}

/*
 * Prepare one of our own queries, with STATEMENT_RANGE, or a rest of it, in its text where the
 * condition of the range, and of the scope if given, belongs.
 */
Statement *
statement_prepare_own(const char *text, Walk *walk, const WalkRange *range,
					  const char *scope, const Parameters *parameters)
{
	Statement  *statement = palloc0(sizeof(Statement));
	List	   *raws = raw_parser(text, RAW_PARSE_DEFAULT);
	List	   *queries;

	graft_mark_places(linitial_node(RawStmt, raws)->stmt);
	statement->text = pstrdup(text);
	statement->graft = graft_make(walk, range, scope, parameters, true);
	PushActiveSnapshot(GetTransactionSnapshot());
	statement->sources = list_make1(make_source(linitial_node(RawStmt, raws),
												statement->text,
												statement->graft, &queries));
	PopActiveSnapshot();
	return statement;
}

/* Let the plans live, and follow changes of the tables, until the end. */
void
statement_keep(Statement *statement)
{
	ListCell   *lc;

	foreach(lc, statement->sources)
		SaveCachedPlan((CachedPlanSource *) lfirst(lc));
}

/* The statement is not needed any more. */
void
statement_drop(Statement *statement)
{
	ListCell   *lc;

	foreach(lc, statement->sources)
		DropCachedPlan((CachedPlanSource *) lfirst(lc));
}

/* The text of the statement, which every query of its own has, the same in memory. */
const char *
statement_text(const Statement *statement)
{
	return statement->text;
}

/* Whether there are several statements, which need one snapshot. */
bool
statement_is_multiple(Statement *statement)
{
	return list_length(statement->sources) > 1;
}

/* ---- planning and running ---- */

static bool
has_valid_plan(CachedPlanSource *source)
{
	return source->is_valid && source->gplan && source->gplan->is_valid;
}

static void
set_for_planning(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/*
 * Have the planner follow the index, whatever it thinks of it, because what it
 * knows of the table may be hours old, and whatever the owner has set for his
 * statement.  The order of places is that of the pages: no index has it, not even one that finds
 * the few rows in scope.  Returns the nest level that is to end after it.
 */
static int
enter_own_planning(const Graft *graft)
{
	bool		along_pages = graft->walk->by_page && !graft->range.everything;
	static const char *const parameters[][2] = {
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_sort", "off"},
		{"enable_tidscan", "on"},
		{"max_parallel_workers_per_gather", "0"},
		{"plan_cache_mode", "auto"},
		{"jit", "off"}
	};
	int			nest = NewGUCNestLevel();

	for (int i = 0; i < lengthof(parameters); i++)
		set_for_planning(parameters[i][0], parameters[i][1]);
	set_for_planning("enable_indexscan", along_pages ? "off" : "on");
	set_for_planning("enable_indexonlyscan", along_pages ? "off" : "on");
	return nest;
}

/*
 * A plan, counted for nobody: the caller hands it to a portal or releases it.
 */
static CachedPlan *
get_plan(Statement *statement, CachedPlanSource *source, ParamListInfo params)
{
	CachedPlan *plan;
	int			nest = 0;

	/* with the other modes, the plan that there is might not be taken */
	if (statement->graft->own &&
		(!has_valid_plan(source) || plan_cache_mode != PLAN_CACHE_MODE_AUTO))
		nest = enter_own_planning(statement->graft);
	PushActiveSnapshot(GetTransactionSnapshot());
	plan = GetCachedPlan(source, params, NULL, NULL);
	PopActiveSnapshot();
	if (nest > 0)
		AtEOXact_GUC(true, nest);
	return plan;
}

/* The planner's estimate of what a plan costs. */
static double
estimated_cost(CachedPlan *plan)
{
	double		cost = 0;
	ListCell   *lc;

	foreach(lc, plan->stmt_list)
	{
		PlannedStmt *stmt = lfirst_node(PlannedStmt, lc);

		if (stmt->commandType != CMD_UTILITY)
			cost += stmt->planTree->total_cost;
	}
	return cost;
}

/* A plan as get_plan makes it, of the kind that the choice has fallen on. */
static CachedPlan *
get_chosen_plan(Statement *statement, CachedPlanSource *source, ParamListInfo params,
				PlanChoice *choice)
{
	CachedPlan *plan;

	if (choice == NULL || choice->fixed)
		return get_plan(statement, source, params);
	source->cursor_options = choice->generic ? CURSOR_OPT_GENERIC_PLAN : CURSOR_OPT_CUSTOM_PLAN;
	plan = get_plan(statement, source, params);
	if (choice_is_acceptable(choice, estimated_cost(plan)))
		return plan;
	ReleaseCachedPlan(plan, NULL);
	source->cursor_options = CURSOR_OPT_CUSTOM_PLAN;
	return get_plan(statement, source, params);
}

/* What is watched at the moment, or NULL; set by statement_execute alone. */
static StatementProgress *watched = NULL;

/*
 * Run one source to its end, watched or not, with the kind of plan that the choice
 * has fallen on, or the plan cache's if that is NULL.  Returns the rows processed.
 * Only what the portal runs is watched: its plan is not known before it is made,
 * while functions of the user's may run already.
 */
static uint64
run_source(Statement *statement, CachedPlanSource *source, ParamListInfo params,
		   Snapshot snapshot, DestReceiver *dest, StatementProgress *progress,
		   PlanChoice *choice)
{
	instr_time	began,
				planned,
				ended;
	CachedPlan *plan;
	Portal		portal;
	QueryCompletion qc;

	INSTR_TIME_SET_CURRENT(began);
	plan = get_chosen_plan(statement, source, params, choice);
	INSTR_TIME_SET_CURRENT(planned);
	if (progress)
	{
		instr_time	planning = planned;

		INSTR_TIME_SUBTRACT(planning, began);
		progress->planning += INSTR_TIME_GET_MICROSEC(planning);
	}
	portal = CreateNewPortal();
	portal->visible = false;
	PortalDefineQuery(portal, NULL, statement->text, source->commandTag,
					  plan->stmt_list, plan);
	if (progress)
		progress->stmts = plan->stmt_list;
	PortalStart(portal, params, 0, snapshot);
	InitializeQueryCompletion(&qc);
	compat_portal_run(portal, dest, &qc);
	if (progress)
		progress->stmts = NIL;
	PortalDrop(portal, false);
	if (choice && !choice->fixed)
	{
		INSTR_TIME_SET_CURRENT(ended);
		INSTR_TIME_SUBTRACT(ended, planned);
		INSTR_TIME_SUBTRACT(planned, began);
		choice_note(choice, INSTR_TIME_GET_MICROSEC(planned), INSTR_TIME_GET_MICROSEC(ended),
					(double) qc.nprocessed);
	}
	return qc.nprocessed;
}

/* ---- how far a statement got ---- */

static ExecutorStart_hook_type next_executor_start = NULL;
static ExecutorEnd_hook_type next_executor_end = NULL;

/*
 * Remember the query if it is the statement's own.  Those of functions that it
 * calls, or that the planner calls, may fail and be caught, and then never end:
 * what was remembered of them would point to nothing.
 */
static void
remember_query(QueryDesc *desc, int eflags)
{
	if (next_executor_start)
		next_executor_start(desc, eflags);
	else
		standard_ExecutorStart(desc, eflags);
	if (watched && list_member_ptr(watched->stmts, desc->plannedstmt))
	{
		watched->query = desc;
		if (watched->trail && !(eflags & EXEC_FLAG_EXPLAIN_ONLY))
			trail_follow(watched->trail, desc);
	}
}

/* Forget the query when it ends. */
static void
forget_query(QueryDesc *desc)
{
	if (watched && watched->query == desc)
		watched->query = NULL;
	if (next_executor_end)
		next_executor_end(desc);
	else
		standard_ExecutorEnd(desc);
}

/* Have the executor tell us of queries, from now on, in this process. */
static void
install_hooks(void)
{
	static bool installed = false;

	if (installed)
		return;
	next_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = remember_query;
	next_executor_end = ExecutorEnd_hook;
	ExecutorEnd_hook = forget_query;
	installed = true;
}

/*
 * While statement_execute runs with this progress, or raises an error: the rows
 * that the statement has processed.  -1 if that is not known.
 */
int64
statement_progress(const StatementProgress *progress)
{
	return progress->query && progress->query->estate ?
		(int64) progress->query->estate->es_processed : -1;
}

/* Run all of them, as statement_execute. */
static uint64
run_all(Statement *statement, ParamListInfo params, StatementProgress *progress)
{
	uint64		most = 0;
	ListCell   *lc;

	foreach(lc, statement->sources)
	{
		uint64		rows;

		CHECK_FOR_INTERRUPTS();
		rows = run_source(statement, (CachedPlanSource *) lfirst(lc), params,
						  InvalidSnapshot, None_Receiver, progress,
						  &statement->choices[foreach_current_index(lc)]);
		most = Max(most, rows);
		CommandCounterIncrement();
	}
	return most;
}

/*
 * Run the user's statements with the key range in params, in the current
 * transaction.  Returns the rows processed: of several statements, the most
 * that one of them processed.  Meanwhile *progress, unless that is NULL, is for
 * statement_progress; after an error nothing is remembered.  What is changed is
 * noted in its trail, if it has one.
 */
uint64
statement_execute(Statement *statement, ParamListInfo params, StatementProgress *progress)
{
	StatementProgress *outer = watched;
	volatile uint64 rows = 0;

	if (progress == NULL)
		return run_all(statement, params, NULL);
	install_hooks();
	progress->stmts = NIL;
	progress->query = NULL;
	watched = progress;
	PG_TRY();
	{
		rows = run_all(statement, params, progress);
	}
	PG_FINALLY();
	{
		progress->stmts = NIL;
		progress->query = NULL;
		if (progress->trail)
			trail_end();
		watched = outer;
	}
	PG_END_TRY();
	return rows;
}

static bool
last_row_receive(TupleTableSlot *slot, DestReceiver *self)
{
	LastRow    *last = (LastRow *) self;
	MemoryContext old = MemoryContextSwitchTo(last->context);

	slot_getallattrs(slot);
	for (int i = 0; i < last->ncolumns; i++)
	{
		Form_pg_attribute att = TupleDescAttr(slot->tts_tupleDescriptor, i);

		if (slot->tts_isnull[i])
			elog(ERROR, "unexpected null in column %d", i + 1);
		last->values[i] = datumCopy(slot->tts_values[i], att->attbyval, att->attlen);
	}
	MemoryContextSwitchTo(old);
	last->found = true;
	return true;
}

static void
last_row_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static void
last_row_shutdown(DestReceiver *self)
{
}

/*
 * Run one of our own queries with the snapshot, or the transaction's if that
 * is NULL.  Puts the last row into values, in the current memory context, and
 * returns whether there was one.
 */
bool
statement_fetch(Statement *statement, ParamListInfo params, Snapshot snapshot,
				int ncolumns, Datum *values)
{
	LastRow		last = {
		.pub = {
			.receiveSlot = last_row_receive,
			.rStartup = last_row_startup,
			.rShutdown = last_row_shutdown,
			.rDestroy = last_row_shutdown,
			.mydest = DestNone
		},
		.context = CurrentMemoryContext,
		.ncolumns = ncolumns,
		.values = values,
		.found = false
	};

	(void) run_source(statement, linitial(statement->sources), params, snapshot,
					  &last.pub, NULL, NULL);
	return last.found;
}

static bool
each_row_receive(TupleTableSlot *slot, DestReceiver *self)
{
	EachRow    *each = (EachRow *) self;

	slot_getallattrs(slot);
	each->function(slot, each->arg);
	return true;
}

/*
 * Run one of our own queries with the snapshot, or the transaction's if that
 * is NULL, and the function for each row, in a short-lived memory context.
 */
void
statement_each_row(Statement *statement, ParamListInfo params, Snapshot snapshot,
				   StatementRow function, void *arg)
{
	EachRow		each = {
		.pub = {
			.receiveSlot = each_row_receive,
			.rStartup = last_row_startup,
			.rShutdown = last_row_shutdown,
			.rDestroy = last_row_shutdown,
			.mydest = DestNone
		},
		.function = function,
		.arg = arg
	};

	(void) run_source(statement, linitial(statement->sources), params, snapshot,
					  &each.pub, NULL, NULL);
}

/* The queries, analysed and rewritten, of all statements; copies. */
List *
statement_queries(Statement *statement)
{
	List	   *queries = NIL;
	ListCell   *lc;

	foreach(lc, statement->sources)
		queries = list_concat(queries,
							  copyObject(((CachedPlanSource *) lfirst(lc))->query_list));
	return queries;
}

/*
 * Plan the statements one after the other as they would be for an execution,
 * and hand each plan to the function, which may execute it.
 */
void
statement_each_plan(Statement *statement, ParamListInfo params,
					StatementPlan function, void *arg)
{
	ListCell   *lc,
			   *lc2;

	foreach(lc, statement->sources)
	{
		CachedPlan *plan;

		CHECK_FOR_INTERRUPTS();
		plan = get_plan(statement, (CachedPlanSource *) lfirst(lc), params);
		foreach(lc2, plan->stmt_list)
		{
			function(lfirst_node(PlannedStmt, lc2), statement->text, params, arg);
			CommandCounterIncrement();
		}
		ReleaseCachedPlan(plan, NULL);
	}
}

/* The rows that the planner expects one of our own queries to return. */
double
statement_estimate(const char *text, Walk *walk, const WalkRange *range,
				   ParamListInfo params)
{
	Statement  *statement = statement_prepare_own(text, walk, range, NULL, NULL);
	CachedPlanSource *source = linitial(statement->sources);
	CachedPlan *plan;
	double		rows;

	source->cursor_options = CURSOR_OPT_CUSTOM_PLAN;
	plan = get_plan(statement, source, params);
	rows = linitial_node(PlannedStmt, plan->stmt_list)->planTree->plan_rows;
	ReleaseCachedPlan(plan, NULL);
	return rows;
}

/*
 * Plan the statement and have the executor check the current user's rights
 * without running anything, so that mistakes show when it is defined.
 */
void
statement_check(Statement *statement)
{
	PositionText context = {statement->what, statement->text};
	ErrorContextCallback callback;
	ListCell   *lc,
			   *lc2;

	callback.callback = position_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	foreach(lc, statement->sources)
	{
		CachedPlan *plan = get_plan(statement, (CachedPlanSource *) lfirst(lc), NULL);

		PushActiveSnapshot(GetTransactionSnapshot());
		foreach(lc2, plan->stmt_list)
		{
			PlannedStmt *stmt = lfirst_node(PlannedStmt, lc2);
			QueryDesc  *desc;

			if (stmt->commandType == CMD_UTILITY)
				continue;
			desc = CreateQueryDesc(stmt, statement->text, GetActiveSnapshot(),
								   InvalidSnapshot, None_Receiver,
								   statement_params(statement->graft->walk,
												   statement->graft->parameters),
								   NULL, 0);
			ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
			ExecutorEnd(desc);
			FreeQueryDesc(desc);
		}
		PopActiveSnapshot();
		ReleaseCachedPlan(plan, NULL);
	}
	error_context_stack = callback.previous;
}

/* ---- parameters ---- */

/* The parameters' values behind those of the walk, whose own are null. */
ParamListInfo
statement_params(Walk *walk, const Parameters *parameters)
{
	int			first = 2 * walk->nkeys + 1;
	ParamListInfo list = walk_make_params(walk, parameters->n);

	for (int i = 0; i < parameters->n; i++)
	{
		list->params[first + i].value = parameters->items[i].value;
		list->params[first + i].isnull = parameters->items[i].isnull;
		list->params[first + i].pflags = PARAM_FLAG_CONST;
		list->params[first + i].ptype = parameters->items[i].type;
	}
	return list;
}
