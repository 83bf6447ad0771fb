/*-------------------------------------------------------------------------
 *
 * imply.c
 *	  The range of a batch, for the table that is joined by the key.
 *
 * Where batch is joined with another table by the first column of the key, the rows of that table
 * lie within the same bounds.  The planner concludes such a thing from a constant, but
 * not from a range, so that it would read all of the other table for each batch, and join it, or all of
 * its partitions, or its index from the first entry on; and where it is a sub-select that has
 * a sum for each key, make those of all keys.  So the bounds are added for that table, too.
 *
 * What is true does not change by that.  But the planner takes the two conditions for independent
 * of each other, and the join for the smaller, by as much as the range is smaller than the table.  Where
 * something else is joined with the result this could mislead it.  So nothing is added unless the
 * join of the two is all that there is: no third table, no outer join, and no sub-select in a
 * condition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"

#include "walk/analysed.h"
#include "walk/imply.h"

/* A join of batch with one other table. */
typedef struct Pair
{
	int			batch;			/* the number of batch among the query's relations, */
	AttrNumber	key;			/* its column that is the first of the key, */
	int			other;			/* and the number of the other table */
} Pair;

/* The query that is followed, within the whole statement. */
typedef struct Place
{
	const Query *statement;
	Index		depth;			/* of the query in it */
	Walk	   *walk;
	const WalkRange *range;
} Place;

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

/*
 * Which column of batch, as it is defined in front of the statement, is the first of the key; 0 if none
 * is, as where it is one row for each value, or if that is another relation of the name.
 */
static AttrNumber
key_of_batch(const Place *place, const RangeTblEntry *rte)
{
	CommonTableExpr *cte = analysed_find_with(place->statement, WALK_BATCH);
	Query	   *query = cte && IsA(cte->ctequery, Query) ? (Query *) cte->ctequery : NULL;
	ListCell   *lc;

	if (rte->rtekind != RTE_CTE || rte->ctelevelsup != place->depth || query == NULL ||
		strcmp(rte->ctename, WALK_BATCH) != 0 || list_length(query->rtable) != 1 ||
		checkExprHasSubLink((Node *) query->jointree))
		return InvalidAttrNumber;
	if (linitial_node(RangeTblEntry, query->rtable)->relid != place->walk->target)
		return InvalidAttrNumber;
	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (IsA(entry->expr, Var) && ((Var *) entry->expr)->varattno == place->walk->columns[0].attno)
			return entry->resno;
	}
	return InvalidAttrNumber;
}

/* The same of a relation of the query, which may be the target in the place of batch, or no batch at all. */
static AttrNumber
key_column(const Place *place, const Query *query, int number)
{
	const RangeTblEntry *rte = rt_fetch(number, query->rtable);

	if (number == query->resultRelation && rte->relid == place->walk->target &&
		has_bound(query->jointree->quals, place->walk))
		return place->walk->columns[0].attno;
	return key_of_batch(place, rte);
}

/* Whether the query is planned by itself, so that its tables are not joined with those outside of it. */
static bool
is_apart(const Query *query)
{
	return query->hasAggs || query->groupClause != NIL || query->distinctClause != NIL;
}

/* Whether bounds may be added for the relation: a table, or what is planned apart. */
static bool
is_table(const Place *place, const RangeTblEntry *rte)
{
	const CommonTableExpr *cte;

	switch (rte->rtekind)
	{
		case RTE_RELATION:
			return rte->tablesample == NULL && rte->relkind != RELKIND_VIEW;
		case RTE_SUBQUERY:
			return !rte->lateral && is_apart(rte->subquery);
		case RTE_CTE:
			cte = rte->ctelevelsup == place->depth ? analysed_find_with(place->statement, rte->ctename) : NULL;
			return cte && IsA(cte->ctequery, Query) && is_apart((Query *) cte->ctequery);
		default:
			return false;
	}
}

/* Append the numbers of the relations that are joined, with inner joins; 0 for anything else. */
static List *
joined_relations(List *numbers, Node *node)
{
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
		return lappend_int(numbers, ((RangeTblRef *) node)->rtindex);
	if (IsA(node, JoinExpr) && ((JoinExpr *) node)->jointype == JOIN_INNER)
		return joined_relations(joined_relations(numbers, ((JoinExpr *) node)->larg),
								((JoinExpr *) node)->rarg);
	if (!IsA(node, FromExpr))
		return lappend_int(numbers, 0);
	foreach(lc, ((FromExpr *) node)->fromlist)
		numbers = joined_relations(numbers, lfirst(lc));
	return numbers;
}

/* Whether the query is the join of batch with one other table, and which they are. */
static bool
find_pair(const Place *place, const Query *query, Pair *pair)
{
	List	   *numbers = joined_relations(NIL, (Node *) query->jointree);

	if (list_length(numbers) != 2 || list_member_int(numbers, 0) ||
		checkExprHasSubLink((Node *) query->jointree))
		return false;
	for (int i = 0; i < 2; i++)
	{
		pair->batch = list_nth_int(numbers, i);
		pair->other = list_nth_int(numbers, 1 - i);
		pair->key = key_column(place, query, pair->batch);
		if (AttributeNumberIsValid(pair->key))
			return is_table(place, rt_fetch(pair->other, query->rtable));
	}
	return false;
}

/* The column that the expression is, but for its type; NULL if it is something else. */
static const Var *
column_of(Node *node)
{
	while (IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return IsA(node, Var) && ((Var *) node)->varlevelsup == 0 ? (Var *) node : NULL;
}

/*
 * What is compared with the key for equality, in the order of the walk's index: an expression about
 * a column of the other table, and its type in *type.  NULL if the condition is no such thing.
 */
static Node *
equal_to_key(Node *node, const Pair *pair, const WalkColumn *key, Oid *type)
{
	OpExpr	   *op = (OpExpr *) node;
	int			strategy;
	Oid			types[2];

	if (!IsA(node, OpExpr) || list_length(op->args) != 2 || op->inputcollid != key->collation ||
		!op_in_opfamily(op->opno, key->opfamily))
		return NULL;
	get_op_opfamily_properties(op->opno, key->opfamily, false, &strategy, &types[0], &types[1]);
	if (strategy != BTEqualStrategyNumber)
		return NULL;
	for (int i = 0; i < 2; i++)
	{
		const Var  *batch = column_of(list_nth(op->args, i));
		const Var  *other = column_of(list_nth(op->args, 1 - i));

		if (batch && other && batch->varno == pair->batch && batch->varattno == pair->key &&
			other->varno == pair->other && types[i] == key->opcintype)
		{
			*type = types[1 - i];
			return list_nth(op->args, 1 - i);
		}
	}
	return NULL;
}

/* Append that the expression of that type is at or within one end of the range, if its operator is known. */
static List *
append_bound(List *quals, Node *expr, Oid type, const WalkColumn *key, int number, bool below)
{
	Oid			opno = get_opfamily_member(key->opfamily, type, key->opcintype,
										   below ? BTLessEqualStrategyNumber : BTGreaterEqualStrategyNumber);
	Expr	   *op;

	if (!OidIsValid(opno))
		return quals;
	op = make_opclause(opno, BOOLOID, false, copyObject((Expr *) expr),
					   (Expr *) walk_param(number, key->argtype, -1), InvalidOid, key->collation);
	set_opfuncid((OpExpr *) op);
	return lappend(quals, op);
}

/* Append the bounds for what the condition, or one of several that all have to hold, equates with the key. */
static List *
append_implied(List *quals, Node *condition, const Pair *pair, const Place *place)
{
	const WalkColumn *key = &place->walk->columns[0];
	bool		down = place->walk->descending;
	ListCell   *lc;
	Node	   *expr;
	Oid			type;

	if (condition == NULL)
		return quals;
	if (IsA(condition, BoolExpr) && ((BoolExpr *) condition)->boolop == AND_EXPR)
	{
		foreach(lc, ((BoolExpr *) condition)->args)
			quals = append_implied(quals, lfirst(lc), pair, place);
		return quals;
	}
	expr = equal_to_key(condition, pair, key, &type);
	if (expr == NULL)
		return quals;
	if (place->range->nstart > 0)
		quals = append_bound(quals, expr, type, key, 1, down);
	if (place->range->nend > 0)
		quals = append_bound(quals, expr, type, key, place->walk->nkeys + 1, !down);
	return quals;
}

/* The same for all conditions of inner joins. */
static List *
append_implied_by_joins(List *quals, Node *node, const Pair *pair, const Place *place)
{
	ListCell   *lc;

	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		quals = append_implied(quals, join->quals, pair, place);
		quals = append_implied_by_joins(quals, join->larg, pair, place);
		return append_implied_by_joins(quals, join->rarg, pair, place);
	}
	if (!IsA(node, FromExpr))
		return quals;
	quals = append_implied(quals, ((FromExpr *) node)->quals, pair, place);
	foreach(lc, ((FromExpr *) node)->fromlist)
		quals = append_implied_by_joins(quals, lfirst(lc), pair, place);
	return quals;
}

/* Add them to the query of that depth in the statement, or to what an INSERT inserts. */
static void
imply_in(Query *query, Place place)
{
	List	   *quals;
	Pair		pair;

	if (query->commandType == CMD_INSERT)
	{
		const RangeTblEntry *source = NULL;
		ListCell   *lc;

		foreach(lc, query->rtable)
		{
			if (lfirst_node(RangeTblEntry, lc)->rtekind == RTE_SUBQUERY)
				source = lfirst(lc);
		}
		place.depth++;
		if (source)
			imply_in(source->subquery, place);
		return;
	}
	if (query->commandType == CMD_MERGE || query->setOperations || query->jointree == NULL ||
		!find_pair(&place, query, &pair))
		return;
	quals = append_implied_by_joins(NIL, (Node *) query->jointree, &pair, &place);
	if (quals != NIL && query->jointree->quals)
		quals = lcons(query->jointree->quals, quals);
	if (quals != NIL)
		query->jointree->quals = (Node *) make_ands_explicit(quals);
}

/*
 * Add the bounds of the range to a statement that has just been analysed, with batch grafted into it, for
 * what is joined with batch: in the statement itself, and in what its WITH has it change.
 */
void
imply_range(Query *query, Walk *walk, const WalkRange *range)
{
	Place		place = {query, 0, walk, range};
	ListCell   *lc;

	if (walk->by_source || walk->by_page || walk->columns[0].expr || range->nulls || range->everything)
		return;
	imply_in(query, place);
	place.depth = 1;
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (IsA(cte->ctequery, Query) && ((Query *) cte->ctequery)->commandType != CMD_SELECT)
			imply_in((Query *) cte->ctequery, place);
	}
}
