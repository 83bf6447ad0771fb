/*-------------------------------------------------------------------------
 *
 * imply.c
 *	  The range of a batch, for what is joined with it by the key.
 *
 * Where a relation is joined with batch by the first column of the key, its rows lie within the same
 * bounds.  The planner concludes such a thing from a constant, but not from a range, so that it would
 * read all of the other table for each batch, and join it, or its index from the first entry
 * on; and where it is a sub-select that has a sum for each key, make those of all keys.  So a call of
 * within (within.c) is added there, which changes neither what is true nor any estimate.
 *
 * It is added beside the equality, wherever that is one of the conditions of a WHERE or ON that all have to
 * hold.  There, whatever the kind of the join, the equality is true for rows of batch only, and these
 * are in the range.  Likewise in a sub-select of EXISTS, and in one of IN whose result does not
 * matter where it is unknown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "walk/analysed.h"
#include "walk/imply.h"

/* The statement, and what is to be added. */
typedef struct Implied
{
	const CommonTableExpr *batch;	/* how it is defined in front of the statement, or NULL */
	AttrNumber	key;			/* which of its columns is the first of the key; 0 if none is */
	const Walk *walk;
	Oid			within;			/* the function */
	int			low;			/* numbers of the parameters that are the bounds, in the order of the index */
	int			high;
} Implied;

/* A query in the statement, within another one; the outermost has none above it. */
typedef struct Level
{
	Query	   *query;
	const struct Level *above;
	bool		asked;			/* only whether it has a row counts */
	const Implied *implied;
} Level;

static void imply_in(Query *query, const Level *above, bool asked, const Implied *implied);

/* Whether one of the range's bounds is compared in the condition. */
static bool
has_bound(Node *node, void *arg)
{
	const Walk *walk = (const Walk *) arg;

	if (node == NULL)
		return false;
	if (IsA(node, Param))
		return ((Param *) node)->paramkind == PARAM_EXTERN && ((Param *) node)->paramid <= 2 * walk->nkeys;
	return expression_tree_walker(node, has_bound, arg);
}

/* Which column of batch is the first of the key, as it is defined; 0 if none is, as where batch is one row a value. */
static AttrNumber
key_of_definition(const Implied *implied)
{
	const Query *query = implied->batch ? (Query *) implied->batch->ctequery : NULL;
	ListCell   *lc;

	foreach(lc, query ? query->targetList : NIL)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		const Var  *var = (Var *) entry->expr;

		if (IsA(var, Var) && var->varlevelsup == 0 && var->varattno == implied->walk->columns[0].attno &&
			rt_fetch(var->varno, query->rtable)->relid == implied->walk->target)
			return entry->resno;
	}
	return InvalidAttrNumber;
}

/* The query so many above, or NULL. */
static const Level *
level_above(const Level *level, Index n)
{
	for (; n > 0 && level; n--)
		level = level->above;
	return level;
}

/*
 * Which column of the query's relation is the first of the key, if it is batch: as it is defined in front
 * of the statement, or the target in its place, with the bounds in the query's condition.  Otherwise 0.
 */
static AttrNumber
key_of_batch(const Level *level, int relation)
{
	const Implied *implied = level->implied;
	const RangeTblEntry *rte = rt_fetch(relation, level->query->rtable);

	if (rte->rtekind == RTE_CTE)
	{
		const Level *definition = level_above(level, rte->ctelevelsup);

		return definition && definition->above == NULL && strcmp(rte->ctename, WALK_BATCH) == 0 ?
			implied->key : InvalidAttrNumber;
	}
	if (rte->rtekind == RTE_RELATION && rte->relid == implied->walk->target &&
		(relation == level->query->resultRelation ||
		 (implied->batch && (Node *) level->query == implied->batch->ctequery)) &&
		has_bound(level->query->jointree->quals, (void *) implied->walk))
		return implied->walk->columns[0].attno;
	return InvalidAttrNumber;
}

/* The column that the expression is, but for its type; NULL if it is something else. */
static const Var *
column_of(Node *node)
{
	while (IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return IsA(node, Var) ? (Var *) node : NULL;
}

/*
 * Whether the expression is the first column of the key in batch, of this query or of one above it that asks
 * whether this one has a row: any other is run for each row of batch, and looks for that.
 */
static bool
is_key(Node *node, const Level *level)
{
	const Var  *var = column_of(node);

	if (var == NULL)
		return false;
	for (Index i = 0; i < var->varlevelsup && level; i++)
		level = level->asked ? level->above : NULL;
	return level && var->varattno > 0 && key_of_batch(level, var->varno) == var->varattno;
}

/* Whether the query reads a foreign table. */
static bool
reads_foreign(const Query *query)
{
	ListCell   *lc;

	foreach(lc, query->cteList)
	{
		const CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (IsA(cte->ctequery, Query) && reads_foreign((Query *) cte->ctequery))
			return true;
	}
	foreach(lc, query->rtable)
	{
		const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if ((rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE) ||
			(rte->rtekind == RTE_SUBQUERY && reads_foreign(rte->subquery)))
			return true;
	}
	return false;
}

/* Whether what the relation stands for, one that a WITH defines, reads a foreign table. */
static bool
defined_by_foreign(const RangeTblEntry *rte, const Level *level)
{
	const Level *definition = level_above(level, rte->ctelevelsup);
	const CommonTableExpr *cte = definition ? analysed_find_with(definition->query, rte->ctename) : NULL;

	return cte && IsA(cte->ctequery, Query) && reads_foreign((Query *) cte->ctequery);
}

/*
 * Whether the expression is a column of a relation of the query that had better be bounded.  A foreign table is
 * not: its server, whose order may be another one, is not asked to do it, and what is done here instead keeps
 * it from making a sum or a join there.
 */
static bool
is_other(Node *node, const Level *level)
{
	const Var  *var = column_of(node);
	const RangeTblEntry *rte;

	if (var == NULL || var->varlevelsup > 0 || AttributeNumberIsValid(key_of_batch(level, var->varno)))
		return false;
	rte = rt_fetch(var->varno, level->query->rtable);
	return (rte->rtekind == RTE_RELATION && rte->relkind != RELKIND_FOREIGN_TABLE) ||
		(rte->rtekind == RTE_SUBQUERY && !reads_foreign(rte->subquery)) ||
		(rte->rtekind == RTE_CTE && !defined_by_foreign(rte, level));
}

/*
 * What is compared with the key for equality, as the walk's index has it, with its type in *type.  NULL
 * if the condition is no such thing.
 */
static Node *
equal_to_key(Node *node, const Level *level, Oid *type)
{
	const WalkColumn *key = &level->implied->walk->columns[0];
	OpExpr	   *op = (OpExpr *) node;
	int			strategy;
	Oid			types[2];

	if (node == NULL || !IsA(node, OpExpr) || list_length(op->args) != 2 ||
		op->inputcollid != key->collation || !op_in_opfamily(op->opno, key->opfamily))
		return NULL;
	get_op_opfamily_properties(op->opno, key->opfamily, false, &strategy, &types[0], &types[1]);
	if (strategy != BTEqualStrategyNumber)
		return NULL;
	for (int i = 0; i < 2; i++)
	{
		*type = types[1 - i];
		if (types[i] == key->opcintype && is_key(list_nth(op->args, i), level))
			return list_nth(op->args, 1 - i);
	}
	return NULL;
}

static Node *
operator_const(Oid operator)
{
	return (Node *) makeConst(REGOPERATOROID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum(operator), false, true);
}

/* That an expression of that type lies within the range; NULL if its operators are not known. */
static Node *
within_range(Node *expr, Oid type, const Implied *implied)
{
	const WalkColumn *key = &implied->walk->columns[0];
	Oid			at_least = get_opfamily_member(key->opfamily, type, key->opcintype, BTGreaterEqualStrategyNumber);
	Oid			at_most = get_opfamily_member(key->opfamily, type, key->opcintype, BTLessEqualStrategyNumber);

	if (!OidIsValid(at_least) || !OidIsValid(at_most))
		return NULL;
	return (Node *) makeFuncExpr(implied->within, BOOLOID,
								 list_make5(copyObject(expr), walk_param(implied->low, key->argtype, -1),
											walk_param(implied->high, key->argtype, -1),
											operator_const(at_least), operator_const(at_most)),
								 InvalidOid, key->collation, COERCE_EXPLICIT_CALL);
}

/* The conditions hold, too. */
static Node *
and_also(Node *condition, List *others)
{
	if (others == NIL)
		return condition;
	return (Node *) make_ands_explicit(condition ? lcons(condition, others) : others);
}

/* Whether each row of the query's tables that meets its condition is a row of the result, and nothing else is. */
static bool
is_plain(const Query *query)
{
	return query->setOperations == NULL && !query->hasAggs && !query->hasWindowFuncs && !query->hasTargetSRFs &&
		!query->hasDistinctOn && query->groupClause == NIL && query->groupingSets == NIL &&
		query->havingQual == NULL && query->limitOffset == NULL && query->limitCount == NULL;
}

/*
 * The key is among the values of the sub-select, or the condition does not hold: have it give those within the
 * range only.
 */
static void
imply_in_any(SubLink *link, const Level *level)
{
	Query	   *query = (Query *) link->subselect;
	Level		inner = {query, level, false, level->implied};
	Oid			type;
	Node	   *value = equal_to_key(link->testexpr, level, &type);
	Node	   *expr;
	Node	   *within;

	if (link->subLinkType != ANY_SUBLINK || value == NULL || !IsA(value, Param) || !is_plain(query))
		return;
	expr = (Node *) linitial_node(TargetEntry, query->targetList)->expr;
	if (exprType(expr) != type || !is_other(expr, &inner))
		return;
	within = within_range(expr, type, level->implied);
	if (within)
		query->jointree->quals = and_also(query->jointree->quals, list_make1(within));
}

/* Whether the relation is part of what is joined there, which may be NULL for everything. */
static bool
is_within(Node *joined, int relation)
{
	ListCell   *lc;

	if (joined == NULL)
		return true;
	if (IsA(joined, RangeTblRef))
		return ((RangeTblRef *) joined)->rtindex == relation;
	if (IsA(joined, JoinExpr))
		return is_within(((JoinExpr *) joined)->larg, relation) || is_within(((JoinExpr *) joined)->rarg, relation);
	foreach(lc, castNode(FromExpr, joined)->fromlist)
	{
		if (is_within(lfirst(lc), relation))
			return true;
	}
	return false;
}

/*
 * Append what the condition, or any of several that all have to hold, implies for relations of the query that
 * are part of what is joined there.
 */
static List *
append_implied(List *implied, Node *condition, Node *joined, const Level *level)
{
	ListCell   *lc;
	Node	   *expr;
	Oid			type;

	if (condition && IsA(condition, BoolExpr) && ((BoolExpr *) condition)->boolop == AND_EXPR)
	{
		foreach(lc, ((BoolExpr *) condition)->args)
			implied = append_implied(implied, lfirst(lc), joined, level);
		return implied;
	}
	if (condition && IsA(condition, SubLink))
		imply_in_any((SubLink *) condition, level);
	expr = equal_to_key(condition, level, &type);
	if (expr && is_other(expr, level) && is_within(joined, column_of(expr)->varno))
	{
		Node	   *within = within_range(expr, type, level->implied);

		if (within)
			implied = lappend(implied, within);
	}
	return implied;
}

/* Look into sub-selects of a condition that ask for rows, those that others contain included. */
static bool
imply_in_sublinks(Node *node, void *arg)
{
	const Level *level = (const Level *) arg;

	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
	{
		SubLink    *link = (SubLink *) node;

		if (link->subLinkType == EXISTS_SUBLINK || link->subLinkType == ANY_SUBLINK)
			imply_in((Query *) link->subselect, level, link->subLinkType == EXISTS_SUBLINK, level->implied);
		return imply_in_sublinks(link->testexpr, arg);
	}
	return expression_tree_walker(node, imply_in_sublinks, arg);
}

/* The condition of a WHERE or ON, with what it implies for what is joined there. */
static Node *
with_implied(Node *condition, Node *joined, const Level *level)
{
	List	   *implied = append_implied(NIL, condition, joined, level);

	(void) imply_in_sublinks(condition, (void *) level);
	return and_also(condition, implied);
}

/*
 * The same for the conditions of what is joined.  Rows of an outer join that have to be in its result, whatever they
 * are joined with, cannot be left out, and a full join takes no conditions but equalities.
 */
static void
imply_in_joins(Node *node, const Level *level)
{
	ListCell   *lc;

	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		imply_in_joins(join->larg, level);
		imply_in_joins(join->rarg, level);
		if (join->jointype != JOIN_FULL)
			join->quals = with_implied(join->quals,
									   join->jointype == JOIN_LEFT ? join->rarg :
									   join->jointype == JOIN_RIGHT ? join->larg : NULL, level);
	}
	else if (IsA(node, FromExpr))
	{
		foreach(lc, ((FromExpr *) node)->fromlist)
			imply_in_joins(lfirst(lc), level);
		((FromExpr *) node)->quals = with_implied(((FromExpr *) node)->quals, NULL, level);
	}
}

/* The same for the query, and those in it. */
static void
imply_in(Query *query, const Level *above, bool asked, const Implied *implied)
{
	Level		level = {query, above, asked, implied};
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (IsA(cte->ctequery, Query))
			imply_in((Query *) cte->ctequery, &level, false, implied);
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_SUBQUERY)
			imply_in(rte->subquery, &level, false, implied);
	}
	if (query->jointree && query->commandType != CMD_MERGE)
		imply_in_joins((Node *) query->jointree, &level);
}

/* The function that is called; InvalidOid if there is none, as in a database that has not been upgraded. */
static Oid
find_within(void)
{
	Oid			types[] = {ANYOID, ANYOID, ANYOID, REGOPERATOROID, REGOPERATOROID};
	Oid			namespace = get_namespace_oid("backfill", true);

	return OidIsValid(namespace) ?
		GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("within"),
						PointerGetDatum(buildoidvector(types, lengthof(types))), ObjectIdGetDatum(namespace)) :
		InvalidOid;
}

/*
 * Add to a statement that has just been analysed, with batch grafted into it, the bounds of the range for what
 * is joined with batch.
 */
void
imply_range(Query *query, Walk *walk, const WalkRange *range)
{
	int			start = 1;
	int			end = walk->nkeys + 1;
	Implied		implied = {.batch = analysed_find_with(query, WALK_BATCH), .walk = walk};

	if (walk->by_source || walk->by_page || walk->columns[0].expr || range->nulls || range->everything ||
		range->nstart == 0 || range->nend == 0)
		return;
	if (implied.batch && !IsA(implied.batch->ctequery, Query))
		implied.batch = NULL;
	implied.key = key_of_definition(&implied);
	implied.within = find_within();
	implied.low = walk->descending ? end : start;
	implied.high = walk->descending ? start : end;
	if (OidIsValid(implied.within))
		imply_in(query, NULL, false, &implied);
}
