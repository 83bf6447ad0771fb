/*-------------------------------------------------------------------------
 *
 * graft.c
 *	  The relation "batch", grafted into a raw statement.
 *
 * The statement is parsed by raw_parser and "batch" is grafted into the raw
 * parse tree:
 *
 * - a common table expression "batch", not materialized, that selects the rows
 *	 of the target in the key range and in scope.  PostgreSQL's own resolution
 *	 of names then serves every read of it, aliases and shadowing included.
 * - where batch itself is updated or deleted from, the target in its place,
 *	 with the same condition added.
 *
 * The condition is a placeholder: a column reference that no user can write,
 * because its location is unknown.  While the tree is analysed, a hook of the
 * parser puts the real condition there: the comparison of the key with
 * parameters, built by walk.c, and the scope, transformed in a namespace that
 * holds nothing but the target under the name "batch".  So neither a join in
 * the statement nor a common table expression of the user can make a name in
 * the scope ambiguous or capture it, and the plan cache does the same again
 * when it has to analyse the statement anew after a change of the table.
 *
 * Nothing is ever spliced into the text.  Positions in error messages are
 * therefore positions in the user's own text; a context callback turns them
 * into an internal query, because the text is not the top-level one.
 *
 * Our own queries about the target go the same way, with the placeholder in
 * their text and "$1" for the number that goes with the range.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/prep.h"
#include "parser/analyze.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/nearest.h"
#include "base/position.h"
#include "settings/parameters.h"
#include "walk/graft.h"
#include "walk/loose.h"
#include "walk/records.h"
#include "walk/walk.h"

/* What the names of all placeholders begin with. */
#define PLACEHOLDER "backfill "

/* ---- the scope ---- */

/* A bare "*", which the grammar takes for a whole target list. */
static bool
is_star(Node *node)
{
	return IsA(node, ColumnRef) && IsA(llast(((ColumnRef *) node)->fields), A_Star);
}

/*
 * Parse the scope alone, as an expression.  What closes a parenthesis that it
 * did not open is then a syntax error like any other.
 */
static Node *
parse_scope(const char *text)
{
	PositionText context = {"scope", text};
	ErrorContextCallback callback;
	SelectStmt *select;
	ResTarget  *target;
	List	   *raw;

	callback.callback = position_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	raw = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	select = castNode(SelectStmt, linitial_node(RawStmt, raw)->stmt);
	target = list_length(select->targetList) == 1 ?
		linitial_node(ResTarget, select->targetList) : NULL;
	if (target == NULL || target->name != NULL || is_star(target->val) ||
		target->indirection != NIL ||
		select->distinctClause || select->fromClause || select->whereClause ||
		select->groupClause || select->havingClause || select->windowClause ||
		select->sortClause || select->limitCount || select->limitOffset ||
		select->lockingClause)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the scope of a backfill must be one expression"),
				 errdetail("The scope is \"%s\".", text),
				 errhint("Write a condition as it would stand after WHERE, such as \"cell_e164 IS NULL\".")));

	error_context_stack = callback.previous;
	return target->val;
}

/* Locations in the scope's text mean nothing in that of the statement. */
static bool
forget_locations(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const))
		((Const *) node)->location = -1;
	else if (IsA(node, Query))
		return query_tree_walker((Query *) node, forget_locations, context, 0);
	return expression_tree_walker(node, forget_locations, context);
}

/*
 * The scope, analysed, about the columns of the target.  While it is
 * transformed the parse state knows the target alone, under the name "batch".
 */
static Node *
transform_scope(Graft *graft, ParseState *pstate, ParseNamespaceItem *nsitem)
{
	PositionText context = {"scope", graft->scope_text};
	ErrorContextCallback callback;
	ParseState	saved = *pstate;
	ParseNamespaceItem *item = palloc(sizeof(ParseNamespaceItem));
	char	   *alias = nsitem->p_names->aliasname;
	Node	   *result;

	callback.callback = position_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	/*
	 * Renamed, and not given other names: the parser makes a row of the target's type out of
	 * "batch" only where the names are those of the relation itself.
	 */
	*item = *nsitem;
	item->p_names->aliasname = pstrdup(WALK_BATCH);
	item->p_rel_visible = item->p_cols_visible = true;
	item->p_lateral_only = false;
	item->p_lateral_ok = true;

	pstate->p_namespace = list_make1(item);
	pstate->p_ctenamespace = NIL;
	pstate->p_future_ctes = NIL;
	pstate->p_parent_cte = NULL;
	pstate->parentParseState = NULL;
	pstate->p_sourcetext = graft->scope_text;

	result = transformExpr(pstate, copyObject(graft->scope), EXPR_KIND_WHERE);
	result = coerce_to_boolean(pstate, result, "the scope of a backfill");
	forget_locations(result, NULL);

	item->p_names->aliasname = alias;
	pstate->p_namespace = saved.p_namespace;
	pstate->p_ctenamespace = saved.p_ctenamespace;
	pstate->p_future_ctes = saved.p_future_ctes;
	pstate->p_parent_cte = saved.p_parent_cte;
	pstate->parentParseState = saved.parentParseState;
	pstate->p_sourcetext = saved.p_sourcetext;

	error_context_stack = callback.previous;
	return result;
}

/* ---- the parser's hooks ---- */

/*
 * Which of our placeholders the reference is, if any; NULL otherwise.  Any that a user writes
 * has a location.
 */
static const char *
placeholder_name(ColumnRef *cref)
{
	Node	   *name = linitial(cref->fields);

	if (cref->location >= 0 || list_length(cref->fields) != 1 || !IsA(name, String) ||
		strncmp(strVal(name), PLACEHOLDER, strlen(PLACEHOLDER)) != 0)
		return NULL;
	return strVal(name);
}

/* The range that belongs in the place of the placeholder. */
static WalkRange
range_of_place(const Graft *graft, const char *place)
{
	WalkRange	range = graft->range;

	if (strcmp(place, WALK_REST) == 0)
		range.nstart = 0;
	else if (strcmp(place, WALK_REST_BACK) == 0)
		range.nend = 0;
	return range;
}

/*
 * The condition that a row belongs to the rest of a range, which begins behind the key of
 * another relation.  NULL if the place is not that of a rest.
 */
static Node *
beyond_of_place(const Graft *graft, const char *place, ParseState *pstate,
				ParseNamespaceItem *nsitem)
{
	bool		back = strcmp(place, WALK_REST_BACK) == 0;
	ParseNamespaceItem *other;
	int			levels_up;

	if (!back && strcmp(place, WALK_REST) != 0)
		return NULL;
	other = refnameNamespaceItem(pstate, NULL, WALK_REST_OF, -1, &levels_up);
	if (other == NULL)
		elog(ERROR, "the rest of a range is that of no relation");
	return walk_beyond_expr(graft->walk, graft->walk->descending != back, pstate, nsitem, other,
							levels_up);
}

/*
 * An index that has only some of the rows serves only a scope that asks for no others.
 * Raises an error unless it can be proven of this one, which is NULL if there is none; likewise
 * if there has to be one.
 */
static void
check_scope(const Graft *graft, ParseState *pstate, const Node *scope, ParseNamespaceItem *nsitem)
{
	Expr	   *clause = (Expr *) copyObject(scope);

	if (graft->walk->by_page && scope == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a walk by pages needs a scope"),
				 errdetail("Rows that are changed move to other pages, where the walk may come again or has been."),
				 errhint("Give the condition that a row fulfils until it is processed as the \"scope\" of the definition.")));
	if (graft->walk->predicate == NIL)
		return;
	if (clause)
	{
		/* the parser has not come to that yet */
		assign_expr_collations(pstate, (Node *) clause);
		clause = (Expr *) eval_const_expressions(NULL, (Node *) clause);
		clause = canonicalize_qual(clause, false);
		if (predicate_implied_by(walk_predicate(graft->walk, nsitem),
								 make_ands_implicit(clause), false))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot walk along index \"%s\"", get_rel_name(graft->walk->index)),
			 errdetail(scope ? "It covers only some of the rows, and the scope may ask for others: %s" :
					   "It covers only some of the rows, and without a scope all are asked for: %s",
					   pg_get_indexdef_string(graft->walk->index)),
			 errhint("Repeat the condition of the index in the \"scope\".")));
}

/* Put the condition of the range in the place of the placeholder. */
static Node *
columnref_hook(ParseState *pstate, ColumnRef *cref)
{
	Graft	   *graft = (Graft *) pstate->p_ref_hook_state;
	const char *place = placeholder_name(cref);
	ParseNamespaceItem *nsitem;
	WalkRange	range;
	Node	   *qual;
	Node	   *scope = NULL;
	List	   *quals = NIL;

	if (place == NULL)
		return NULL;
	if (graft->walk->by_source)
		return records_place(graft->walk, place);
	nsitem = pstate->p_target_nsitem ? pstate->p_target_nsitem :
		(ParseNamespaceItem *) linitial(pstate->p_namespace);

	/* the target is grafted by name, and meanwhile the name may be another's */
	if (nsitem->p_rte->relid != graft->walk->target)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table %s is not the target of the backfill any more",
						graft->walk->target_name)));

	range = range_of_place(graft, place);
	qual = walk_range_expr(graft->walk, &range, pstate, nsitem);
	if (qual)
		quals = lappend(quals, qual);
	qual = beyond_of_place(graft, place, pstate, nsitem);
	if (qual)
		quals = lappend(quals, qual);
	if (graft->scope)
	{
		scope = transform_scope(graft, pstate, nsitem);
		quals = lappend(quals, scope);
	}
	if (!graft->own)
		check_scope(graft, pstate, scope, nsitem);
	return quals == NIL ? makeBoolConst(true, false) :
		(Node *) make_ands_explicit(quals);
}

/* "$1" is the number in our own queries; a user has no such parameters. */
static Node *
paramref_hook(ParseState *pstate, ParamRef *pref)
{
	Graft	   *graft = (Graft *) pstate->p_ref_hook_state;

	if (graft->own && pref->number == 1)
		return walk_number_param(graft->walk);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_PARAMETER),
			 errmsg("there is no parameter $%d", pref->number),
			 parser_errposition(pstate, pref->location)));
}

compat_noreturn static void
unknown_parameter(const Parameters *parameters, ParseState *pstate, ColumnRef *cref,
				  const char *relation, const char *name)
{
	const char **names = palloc(sizeof(char *) * (parameters->n + 1));
	const char *nearest;
	int			n = 0;

	for (int i = 0; i < parameters->n; i++)
	{
		if (strcmp(parameters->items[i].relation, relation) == 0)
			names[n++] = parameters->items[i].name;
	}
	nearest = nearest_name(name, names, n);
	if (strcmp(relation, PARAMETERS_GIVEN) != 0 && strcmp(relation, PARAMETERS_RUN) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("there is no \"%s.%s\"", relation, name),
				 nearest ? errhint("Perhaps you meant \"%s.%s\".", relation, nearest) : 0,
				 parser_errposition(pstate, cref->location)));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_PARAMETER),
			 strcmp(relation, PARAMETERS_RUN) == 0 ?
			 errmsg("a backfill has no \"run.%s\"", name) :
			 errmsg("the backfill declares no parameter \"%s\"", name),
			 nearest ? errhint("Perhaps you meant \"%s.%s\".", relation, nearest) :
			 strcmp(relation, PARAMETERS_RUN) == 0 ?
			 errhint("There are run.id, run.name, run.started_at and run.since.") :
			 errhint("Declare it in \"parameters\" of backfill_define."),
			 parser_errposition(pstate, cref->location)));
}

/*
 * For the hook behind the parser's own resolution, which has found nothing: the
 * Param node that the reference means, or NULL if it is none of ours.  A table
 * or an alias of the name keeps it, also when it has no such column.
 */
static Node *
parameter_reference(const Parameters *parameters, Walk *walk, ParseState *pstate,
					 ColumnRef *cref)
{
	char	   *relation;
	char	   *name;
	int			levels;

	if (parameters == NULL || list_length(cref->fields) != 2 ||
		!IsA(linitial(cref->fields), String))
		return NULL;
	relation = strVal(linitial(cref->fields));
	if (!parameters_is_relation(parameters, relation))
		return NULL;
	if (refnameNamespaceItem(pstate, NULL, relation, cref->location, &levels) != NULL)
		return NULL;
	if (!IsA(lsecond(cref->fields), String))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s.*\" cannot be used in a backfill", relation),
				 errhint("Name each parameter."),
				 parser_errposition(pstate, cref->location)));
	name = strVal(lsecond(cref->fields));
	for (int i = 0; i < parameters->n; i++)
	{
		Parameter  *parameter = &parameters->items[i];

		if (strcmp(parameter->relation, relation) == 0 && strcmp(parameter->name, name) == 0)
			return (Node *) walk_param(2 * walk->nkeys + 2 + i, parameter->type,
									   parameter->typmod);
	}
	unknown_parameter(parameters, pstate, cref, relation, name);
}

/* What the parser does not know may be a parameter of the run. */
static Node *
unknown_columnref_hook(ParseState *pstate, ColumnRef *cref, Node *var)
{
	Graft	   *graft = (Graft *) pstate->p_ref_hook_state;

	return var ? NULL : parameter_reference(graft->parameters, graft->walk, pstate, cref);
}

void
graft_parser_setup(ParseState *pstate, void *arg)
{
	pstate->p_ref_hook_state = arg;
	pstate->p_post_columnref_hook = unknown_columnref_hook;
	pstate->p_pre_columnref_hook = columnref_hook;
	pstate->p_paramref_hook = paramref_hook;
}

/* ---- grafting ---- */

/*
 * Locations in a text of our own mean nothing to the user; and without one, what is named like
 * our placeholders is one.
 */
static bool
forget_raw_locations(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_ColumnRef:
			((ColumnRef *) node)->location = -1;
			break;
		case T_RangeVar:
			((RangeVar *) node)->location = -1;
			break;
		case T_CommonTableExpr:
			((CommonTableExpr *) node)->location = -1;
			break;
		case T_WithClause:
			((WithClause *) node)->location = -1;
			break;
		case T_A_Expr:
			((A_Expr *) node)->location = -1;
			break;
		case T_CollateClause:
			((CollateClause *) node)->location = -1;
			break;
		case T_RowExpr:
			((RowExpr *) node)->location = -1;
			break;
		case T_SortBy:
			((SortBy *) node)->location = -1;
			break;
		case T_ResTarget:
			((ResTarget *) node)->location = -1;
			break;
		case T_A_Const:
			((A_Const *) node)->location = -1;
			break;
		case T_BoolExpr:
			((BoolExpr *) node)->location = -1;
			break;
		default:
			break;
	}
	return raw_expression_tree_walker(node, forget_raw_locations, context);
}

/* Have what is named like our placeholders in the text of our own be them. */
void
graft_mark_places(Node *stmt)
{
	(void) forget_raw_locations(stmt, NULL);
}

static Node *
make_placeholder(void)
{
	ColumnRef  *cref = makeNode(ColumnRef);

	cref->fields = list_make1(makeString(pstrdup(WALK_PLACE)));
	cref->location = -1;
	return (Node *) cref;
}

/* The WITH clause that defines batch, from a template. */
static WithClause *
make_batch_with(const Graft *graft)
{
	StringInfoData template;
	SelectStmt *outer;

	initStringInfo(&template);
	appendStringInfo(&template, "WITH %s AS %s MATERIALIZED (", WALK_BATCH,
					 graft->walk->by_source ? "" : "NOT");	/* a page is read once */
	if (graft->walk->by_source)
		records_append_batch(&template);
	else if (graft->walk->distinct)
		loose_append_batch(&template, graft->walk, &graft->range);
	else
		appendStringInfo(&template, "SELECT * FROM %s AS batch WHERE \"%s\"",
						 graft->walk->target_name, WALK_PLACE);
	appendStringInfoString(&template, ") SELECT");
	outer = castNode(SelectStmt,
					 linitial_node(RawStmt, raw_parser(template.data, RAW_PARSE_DEFAULT))->stmt);
	graft_mark_places((Node *) outer);
	return outer->withClause;
}

static bool
is_batch(RangeVar *relation)
{
	return relation->catalogname == NULL && relation->schemaname == NULL &&
		strcmp(relation->relname, WALK_BATCH) == 0;
}

/* The target in the place of batch, under the user's alias or "batch". */
static RangeVar *
make_target(Walk *walk, RangeVar *batch)
{
	char	   *template = psprintf("TABLE %s", walk->target_name);
	List	   *raw = raw_parser(template, RAW_PARSE_DEFAULT);
	SelectStmt *select = castNode(SelectStmt, linitial_node(RawStmt, raw)->stmt);
	RangeVar   *target = linitial_node(RangeVar, select->fromClause);

	target->alias = batch->alias ? batch->alias : makeAlias(WALK_BATCH, NIL);
	target->inh = batch->inh;
	target->location = batch->location;
	return target;
}

static Node *
add_condition(Node *where)
{
	if (where == NULL)
		return make_placeholder();
	return (Node *) makeBoolExpr(AND_EXPR, list_make2(where, make_placeholder()), -1);
}

compat_noreturn static void
refuse_statement(const char *message, const char *hint, int location)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s", message),
			 hint ? errhint("%s", hint) : 0,
			 location >= 0 ? errposition(location + 1) : 0));
}

/* Neither values nor the records of a page are rows that could be changed. */
static void
refuse_to_change_values(const Walk *walk, int location)
{
	if (walk->by_source)
		refuse_statement("cannot change \"batch\", which is a page of records that a source has given",
						 "Insert the records into a table, or change that, joined with \"batch\".", location);
	if (walk->distinct)
		refuse_statement("cannot change \"batch\", which is one row for each value of the key",
						 "Name the table itself, and join it with \"batch\".", location);
}

/* State of the walk over a raw tree. */
typedef struct GraftContext
{
	Walk	   *walk;
	const char *text;
	bool		found;			/* batch is updated or deleted from */
	bool		read;			/* batch, or something of that name, is read */
} GraftContext;

/* The position of a byte offset in the text, in characters. */
static int
text_location(const char *text, int location)
{
	return location < 0 ? -1 : pg_mbstrlen_with_len(text, location);
}

/* Replace batch by the target wherever it is updated or deleted from. */
static bool
graft_walker(Node *node, GraftContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, UpdateStmt) && is_batch(((UpdateStmt *) node)->relation))
	{
		UpdateStmt *update = (UpdateStmt *) node;

		if (update->whereClause && IsA(update->whereClause, CurrentOfExpr))
			refuse_statement("WHERE CURRENT OF cannot be used with \"batch\"", NULL, -1);
		refuse_to_change_values(context->walk, text_location(context->text, update->relation->location));
		update->relation = make_target(context->walk, update->relation);
		update->whereClause = add_condition(update->whereClause);
		context->found = true;
	}
	else if (IsA(node, DeleteStmt) && is_batch(((DeleteStmt *) node)->relation))
	{
		DeleteStmt *delete = (DeleteStmt *) node;

		if (delete->whereClause && IsA(delete->whereClause, CurrentOfExpr))
			refuse_statement("WHERE CURRENT OF cannot be used with \"batch\"", NULL, -1);
		refuse_to_change_values(context->walk, text_location(context->text, delete->relation->location));
		delete->relation = make_target(context->walk, delete->relation);
		delete->whereClause = add_condition(delete->whereClause);
		context->found = true;
	}
	else if (IsA(node, InsertStmt) && is_batch(((InsertStmt *) node)->relation))
		refuse_statement("cannot insert into \"batch\"",
						 "Insert into the table itself, by its name.",
						 text_location(context->text, ((InsertStmt *) node)->relation->location));
	else if (IsA(node, MergeStmt) && is_batch(((MergeStmt *) node)->relation))
		refuse_statement("cannot merge into \"batch\"",
						 "Use UPDATE batch ... FROM, or MERGE INTO another table USING batch.",
						 text_location(context->text, ((MergeStmt *) node)->relation->location));
	else if (IsA(node, RangeVar) && is_batch((RangeVar *) node))
		context->read = true;
	return raw_expression_tree_walker(node, graft_walker, context);
}

/* Where the statement keeps its WITH clause; NULL if it is not about data. */
static WithClause **
with_clause_of(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_SelectStmt:
			{
				SelectStmt *leaf = (SelectStmt *) stmt;

				while (leaf->op != SETOP_NONE)
					leaf = leaf->larg;
				return leaf->intoClause ? NULL : &((SelectStmt *) stmt)->withClause;
			}
		case T_InsertStmt:
			return &((InsertStmt *) stmt)->withClause;
		case T_UpdateStmt:
			return &((UpdateStmt *) stmt)->withClause;
		case T_DeleteStmt:
			return &((DeleteStmt *) stmt)->withClause;
		case T_MergeStmt:
			return &((MergeStmt *) stmt)->withClause;
		default:
			return NULL;
	}
}

/* Raises an error if the user's WITH clause has a "batch" of its own. */
static void
check_with_names(WithClause *with, const char *text)
{
	ListCell   *lc;

	foreach(lc, with->ctes)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (strcmp(cte->ctename, WALK_BATCH) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_ALIAS),
					 errmsg("WITH query name \"batch\" is taken by the relation of the backfill"),
					 errhint("Give the WITH query another name."),
					 errposition(text_location(text, cte->location) + 1)));
	}
}

/*
 * Graft batch into one raw statement, in place.  Returns whether it is updated
 * or deleted from; whether it is read shows only after the analysis.
 */
bool
graft_into(RawStmt *raw, const Graft *graft, const char *text)
{
	GraftContext context = {graft->walk, text, false, false};
	WithClause **with = with_clause_of(raw->stmt);
	WithClause *ours;

	if (with == NULL)
		refuse_statement(psprintf("%s cannot be the statement of a backfill",
								  IsA(raw->stmt, SelectStmt) ? "SELECT INTO" :
								  GetCommandTagName(CreateCommandTag(raw->stmt))),
						 "Use SELECT, INSERT, UPDATE, DELETE or MERGE about the relation \"batch\".",
						 text_location(text, raw->stmt_location +
									   strspn(text + Max(raw->stmt_location, 0), " \t\r\n")));

	graft_walker(raw->stmt, &context);

	if (*with && (context.read || context.found))
		check_with_names(*with, text);

	/* a rule may rewrite the statement into several, and WITH forbids that */
	if (!context.read)
		return context.found;

	ours = make_batch_with(graft);
	if (*with == NULL)
		*with = ours;
	else
		(*with)->ctes = lcons(linitial(ours->ctes), (*with)->ctes);
	return context.found;
}

/* Whose statement is being analysed, if it is one of ours; NULL otherwise. */
Graft *
graft_of(const ParseState *pstate)
{
	return pstate->p_paramref_hook == paramref_hook ? (Graft *) pstate->p_ref_hook_state : NULL;
}

/* The graft for one use of the walk; in the current memory context. */
Graft *
graft_make(Walk *walk, const WalkRange *range, const char *scope,
		   const Parameters *parameters, bool own)
{
	Graft	   *graft = palloc0(sizeof(Graft));

	graft->walk = walk;
	graft->range = *range;
	graft->own = own;
	graft->parameters = parameters;
	if (scope)
	{
		graft->scope = parse_scope(scope);
		graft->scope_text = pstrdup(scope);
	}
	return graft;
}
