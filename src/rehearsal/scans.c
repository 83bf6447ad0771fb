/*-------------------------------------------------------------------------
 *
 * scans.c
 *	  Tables that each batch reads in full, and what may help.
 *
 * The plans say which tables are read sequentially.  By which of its columns the
 * statement looks for rows of such a table is read from the queries: those that
 * are compared for equality with something of another table, or that IN looks
 * for.  An index on them is what would spare the scan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "rehearsal/plan.h"
#include "rehearsal/scans.h"

/* ---- by which columns ---- */

typedef struct Search
{
	Oid			relid;
	List	   *rtables;		/* of the queries around, the innermost first */
	Bitmapset  *columns;		/* found */
} Search;

/* The column, if the expression is one. */
static Var *
as_column(Node *node)
{
	while (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node && IsA(node, Var) ? (Var *) node : NULL;
}

/* Note the column if it is one of the table. */
static void
note_column(Search *search, Var *var)
{
	RangeTblEntry *entry;

	if (var->varattno <= 0 || var->varlevelsup >= list_length(search->rtables))
		return;
	entry = rt_fetch(var->varno, (List *) list_nth(search->rtables, var->varlevelsup));
	if (entry->rtekind == RTE_RELATION && entry->relid == search->relid)
		search->columns = bms_add_member(search->columns, var->varattno);
}

/* Look for a comparison of a column of the table with one of another. */
static void
look_at_comparison(Search *search, OpExpr *op)
{
	Var		   *left;
	Var		   *right;

	if (list_length(op->args) != 2 || !op_mergejoinable(op->opno, exprType(linitial(op->args))))
		return;
	left = as_column(linitial(op->args));
	right = as_column(lsecond(op->args));
	if (left == NULL || right == NULL ||
		(left->varno == right->varno && left->varlevelsup == right->varlevelsup))
		return;
	note_column(search, left);
	note_column(search, right);
}

/* What IN looks for is a column of the query inside. */
static void
look_at_sublink(Search *search, SubLink *link)
{
	Query	   *query = castNode(Query, link->subselect);
	Var		   *var;

	if (link->subLinkType != ANY_SUBLINK || query->targetList == NIL)
		return;
	var = as_column((Node *) linitial_node(TargetEntry, query->targetList)->expr);
	if (var == NULL)
		return;
	search->rtables = lcons(query->rtable, search->rtables);
	note_column(search, var);
	search->rtables = list_delete_first(search->rtables);
}

static bool
look(Node *node, void *context)
{
	Search	   *search = (Search *) context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		search->rtables = lcons(((Query *) node)->rtable, search->rtables);
		(void) query_tree_walker((Query *) node, look, context, 0);
		search->rtables = list_delete_first(search->rtables);
		return false;
	}
	if (IsA(node, OpExpr))
		look_at_comparison(search, (OpExpr *) node);
	if (IsA(node, SubLink))
		look_at_sublink(search, (SubLink *) node);
	return expression_tree_walker(node, look, context);
}

/* ---- all of them ---- */

static double
table_bytes(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	double		bytes = RELKIND_HAS_STORAGE(rel->rd_rel->relkind) ?
		(double) RelationGetNumberOfBlocks(rel) * BLCKSZ : 0;

	table_close(rel, AccessShareLock);
	return bytes;
}

/* The entry of the list for the table, which is added if there is none. */
static TableScan *
find_scan(List **scans, Oid relid, List *queries)
{
	Search		search = {.relid = relid};
	TableScan  *scan;
	ListCell   *lc;

	foreach(lc, *scans)
	{
		scan = lfirst(lc);
		if (scan->relid == relid)
			return scan;
	}
	foreach(lc, queries)
		(void) look((Node *) lfirst(lc), &search);
	scan = palloc0(sizeof(TableScan));
	scan->relid = relid;
	scan->columns = search.columns;
	*scans = lappend(*scans, scan);
	return scan;
}

/*
 * The tables of the list, PlanScan, as TableScan: partitions as the table that they
 * belong to.  Opens the tables, which the queries have locked.
 */
List *
scans_collect(List *scanned, List *queries)
{
	List	   *scans = NIL;
	ListCell   *lc;

	foreach(lc, scanned)
	{
		const PlanScan *part = lfirst(lc);
		List	   *ancestors = get_rel_relispartition(part->relid) ?
			get_partition_ancestors(part->relid) : NIL;
		TableScan  *scan = find_scan(&scans, ancestors ? llast_oid(ancestors) : part->relid,
									 queries);

		scan->bytes += table_bytes(part->relid);
		scan->times = Max(scan->times, part->times);
	}
	return scans;
}

/* Whether an index finds rows of the table by one of the columns. */
bool
scans_has_index(Oid relid, const Bitmapset *columns)
{
	Relation	rel = table_open(relid, AccessShareLock);
	List	   *indexes = RelationGetIndexList(rel);
	bool		found = false;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisvalid &&
			bms_is_member(index->rd_index->indkey.values[0], columns))
			found = true;
		index_close(index, AccessShareLock);
	}
	table_close(rel, AccessShareLock);
	return found;
}

/* The columns as CREATE INDEX would have them: "a, b". */
char *
scans_column_names(Oid relid, const Bitmapset *columns)
{
	StringInfoData names;
	int			attno = -1;

	initStringInfo(&names);
	while ((attno = bms_next_member(columns, attno)) >= 0)
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
						 quote_identifier(get_attname(relid, attno, false)));
	return names.data;
}
