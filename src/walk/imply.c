/*-------------------------------------------------------------------------
 *
 * imply.c
 *	  The range of a batch, for the table that is joined by the key.
 *
 * Where batch is joined with another table by the first column of the key, the rows of that table
 * lie within the same bounds.  The planner concludes such a thing from a constant, but
 * not from a range, so that it would read all of the other table for each batch, and join it, or all of
 * its partitions, or its index from the first entry on; and where it is a sub-select that has
 * a sum for each key, make those of all keys.  So the bounds are added for that table, too; likewise
 * for one that has to have the key, by EXISTS or IN.
 *
 * What is true does not change by that.  But the planner takes the two conditions for independent
 * of each other, and the join for the smaller, by as much as the range is smaller than the table.  Where
 * something else is joined with the result this could mislead it.  So nothing is added unless the
 * join of the two is all that there is: no third table, and no other sub-select in a condition.  And
 * should old statistics say that the other table has nothing in the range, it has to be possible to
 * begin with it, and to look up in batch what it has all the same: there is no such plan for an outer
 * join, nor for NOT EXISTS.
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
	int			batch;			/* the number of batch among its query's relations, */
	Index		above;			/* how many queries above the other one that is, */
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

/* How batch is defined in front of the statement, if the relation is that and reads the target; NULL otherwise. */
static CommonTableExpr *
batch_of(const Place *place, const RangeTblEntry *rte)
{
	CommonTableExpr *cte = analysed_find_with(place->statement, WALK_BATCH);
	const Query *query = cte && IsA(cte->ctequery, Query) ? (Query *) cte->ctequery : NULL;

	if (rte->rtekind != RTE_CTE || rte->ctelevelsup != place->depth || query == NULL ||
		strcmp(rte->ctename, WALK_BATCH) != 0 || list_length(query->rtable) != 1 ||
		linitial_node(RangeTblEntry, query->rtable)->relid != place->walk->target)
		return NULL;
	return cte;
}

/* Which column of batch is the first of the key; 0 if none is, as where it is one row for each value. */
static AttrNumber
key_of_batch(const Place *place, const CommonTableExpr *batch)
{
	ListCell   *lc;

	foreach(lc, ((Query *) batch->ctequery)->targetList)
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
	const CommonTableExpr *batch = batch_of(place, rte);

	if (number == query->resultRelation && rte->relid == place->walk->target &&
		has_bound(query->jointree->quals, place->walk))
		return place->walk->columns[0].attno;
	return batch && !checkExprHasSubLink((Node *) ((Query *) batch->ctequery)->jointree) ?
		key_of_batch(place, batch) : InvalidAttrNumber;
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

/* Whether one of the two relations is batch, and the other one can be bounded. */
static bool
find_pair(const Place *place, const Query *query, const List *numbers, Pair *pair)
{
	for (int i = 0; i < 2; i++)
	{
		pair->above = 0;
		pair->batch = list_nth_int(numbers, i);
		pair->other = list_nth_int(numbers, 1 - i);
		pair->key = key_column(place, query, pair->batch);
		if (AttributeNumberIsValid(pair->key))
			return is_table(place, rt_fetch(pair->other, query->rtable));
	}
	return false;
}

/* Whether the expression is, but for its type, a column of that relation, so many queries up; which one it is, or any if that is 0. */
static bool
is_column(Node *node, int relation, Index above, AttrNumber column)
{
	const Var  *var;

	while (IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	var = (Var *) node;
	return IsA(node, Var) && var->varno == relation && var->varlevelsup == above &&
		(column == 0 || var->varattno == column);
}

/*
 * What is compared with the key for equality, as the walk's index has it, so many queries below that of
 * batch, and its type in *type.  NULL if the condition is no such thing.
 */
static Node *
equal_to_key(Node *node, const Pair *pair, Index above, const WalkColumn *key, Oid *type)
{
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
		if (types[i] == key->opcintype && is_column(list_nth(op->args, i), pair->batch, above, pair->key))
			return list_nth(op->args, 1 - i);
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

/* Append both bounds for the expression of that type. */
static List *
append_bounds(List *quals, Node *expr, Oid type, const Place *place)
{
	const WalkColumn *key = &place->walk->columns[0];
	bool		down = place->walk->descending;

	if (place->range->nstart > 0)
		quals = append_bound(quals, expr, type, key, 1, down);
	if (place->range->nend > 0)
		quals = append_bound(quals, expr, type, key, place->walk->nkeys + 1, !down);
	return quals;
}

/* Append the bounds for what the condition, or one of several that all have to hold, equates with the key. */
static List *
append_implied(List *quals, Node *condition, const Pair *pair, const Place *place)
{
	ListCell   *lc;
	Node	   *expr;
	Oid			type;

	if (condition && IsA(condition, BoolExpr) && ((BoolExpr *) condition)->boolop == AND_EXPR)
	{
		foreach(lc, ((BoolExpr *) condition)->args)
			quals = append_implied(quals, lfirst(lc), pair, place);
		return quals;
	}
	expr = equal_to_key(condition, pair, pair->above, &place->walk->columns[0], &type);
	return expr && is_column(expr, pair->other, 0, 0) ? append_bounds(quals, expr, type, place) : quals;
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

/* The conditions hold, too. */
static void
add_conditions(Query *query, List *quals)
{
	if (quals != NIL && query->jointree->quals)
		quals = lcons(query->jointree->quals, quals);
	if (quals != NIL)
		query->jointree->quals = (Node *) make_ands_explicit(quals);
}

/* Count the sub-selects in an expression. */
static bool
count_sublinks(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		++*(int *) arg;
	return expression_tree_walker(node, count_sublinks, arg);
}

/* The sub-select that the condition, or one of several that all have to hold, consists of; the first one, or NULL. */
static SubLink *
asked_sublink(Node *condition)
{
	BoolExpr   *all = (BoolExpr *) condition;
	SubLink    *link = NULL;
	ListCell   *lc;

	if (condition && IsA(condition, SubLink))
		return (SubLink *) condition;
	if (condition && IsA(condition, BoolExpr) && all->boolop == AND_EXPR)
	{
		foreach(lc, all->args)
			link = link ? link : asked_sublink(lfirst(lc));
	}
	return link;
}

/* Whether each row of the query's one table that meets its condition is a row of the result, and nothing else is. */
static bool
is_plain(const Query *query)
{
	return !query->hasAggs && !query->hasWindowFuncs && !query->hasTargetSRFs && !query->hasDistinctOn &&
		query->groupClause == NIL && query->groupingSets == NIL && query->havingQual == NULL &&
		query->limitOffset == NULL && query->limitCount == NULL;
}

/* Append the bounds for the values of the sub-select among which the key has to be. */
static List *
append_implied_by_any(List *quals, const SubLink *link, const Query *query, const Pair *pair, const Place *place)
{
	Oid			type;
	Node	   *value = equal_to_key(link->testexpr, pair, 0, &place->walk->columns[0], &type);
	Node	   *expr = (Node *) linitial_node(TargetEntry, query->targetList)->expr;

	if (value == NULL || !IsA(value, Param) || !is_plain(query) || exprType(expr) != type ||
		!is_column(expr, pair->other, 0, 0))
		return quals;
	return append_bounds(quals, expr, type, place);
}

/*
 * The query of that depth reads batch alone, which has that number and column: add them in the sub-select, if there
 * is but one and it is about one table.
 */
static void
imply_in_sublink(Query *query, int batch, AttrNumber key, Place place)
{
	SubLink    *link = asked_sublink(query->jointree->quals);
	Pair		pair = {batch, 1, key, 0};
	Query	   *select;
	List	   *numbers;
	int			n = 0;

	(void) count_sublinks((Node *) query->jointree, &n);
	if (link == NULL || n != 1 || !IsA(link->subselect, Query))
		return;
	select = (Query *) link->subselect;
	place.depth++;
	numbers = select->setOperations ? NIL : joined_relations(NIL, (Node *) select->jointree);
	if (list_length(numbers) != 1 || linitial_int(numbers) == 0 || checkExprHasSubLink((Node *) select->jointree))
		return;
	pair.other = linitial_int(numbers);
	if (!is_table(&place, rt_fetch(pair.other, select->rtable)))
		return;
	if (link->subLinkType == EXISTS_SUBLINK)
		add_conditions(select, append_implied_by_joins(NIL, (Node *) select->jointree, &pair, &place));
	else if (link->subLinkType == ANY_SUBLINK)
		add_conditions(select, append_implied_by_any(NIL, link, select, &pair, &place));
}

/* The query of that depth reads one relation: add them where that is batch, and a sub-select asks for its rows or is its scope. */
static void
imply_in_one(Query *query, int number, Place place)
{
	AttrNumber	key = key_column(&place, query, number);
	CommonTableExpr *batch = batch_of(&place, rt_fetch(number, query->rtable));

	if (AttributeNumberIsValid(key))
		imply_in_sublink(query, number, key, place);
	else if (batch && batch->cterefcount == 1 && !checkExprHasSubLink((Node *) query->jointree))
	{
		place.depth = 1;
		imply_in_sublink((Query *) batch->ctequery, 1, place.walk->columns[0].attno, place);
	}
}

/* Add them to the query of that depth in the statement, or to what an INSERT inserts. */
static void
imply_in(Query *query, Place place)
{
	List	   *numbers;
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
	if (query->commandType == CMD_MERGE || query->setOperations || query->jointree == NULL)
		return;
	numbers = joined_relations(NIL, (Node *) query->jointree);
	if (list_member_int(numbers, 0))
		return;
	if (list_length(numbers) == 1)
		imply_in_one(query, linitial_int(numbers), place);
	else if (list_length(numbers) == 2 && !checkExprHasSubLink((Node *) query->jointree) &&
			 find_pair(&place, query, numbers, &pair))
		add_conditions(query, append_implied_by_joins(NIL, (Node *) query->jointree, &pair, &place));
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
