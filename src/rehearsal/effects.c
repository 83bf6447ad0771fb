/*-------------------------------------------------------------------------
 *
 * effects.c
 *	  What a statement changes, as far as it can be told from its queries.
 *
 * Read from the analysed and rewritten queries, WITH queries included: the
 * tables that are written, in which way, and which of their columns an update
 * changes.  What functions and triggers do does not show there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_attribute.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "rehearsal/effects.h"

static TableEffect *
find_table(Effects *changes, Oid relid)
{
	TableEffect *table;
	ListCell   *lc;

	foreach(lc, changes->tables)
	{
		table = lfirst(lc);
		if (table->relid == relid)
			return table;
	}
	table = palloc0(sizeof(TableEffect));
	table->relid = relid;
	changes->tables = lappend(changes->tables, table);
	return table;
}

static void
add_columns(TableEffect *table, List *targetlist)
{
	ListCell   *lc;

	table->update = true;
	foreach(lc, targetlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (!entry->resjunk)
			table->columns = bms_add_member(table->columns, entry->resno);
	}
}

/* Note what one query does to its target. */
static void
add_query(Effects *changes, Query *query)
{
	TableEffect *table;
	ListCell   *lc;

	if (query->resultRelation == 0)
		return;
	table = find_table(changes, rt_fetch(query->resultRelation, query->rtable)->relid);
	if (query->commandType == CMD_INSERT)
		table->insert = true;
	else if (query->commandType == CMD_DELETE)
		table->delete = true;
	else if (query->commandType == CMD_UPDATE)
		add_columns(table, query->targetList);
	if (query->onConflict && query->onConflict->action == ONCONFLICT_UPDATE)
		add_columns(table, query->onConflict->onConflictSet);
	foreach(lc, query->mergeActionList)
	{
		MergeAction *action = lfirst_node(MergeAction, lc);

		if (action->commandType == CMD_INSERT)
			table->insert = true;
		else if (action->commandType == CMD_DELETE)
			table->delete = true;
		else if (action->commandType == CMD_UPDATE)
			add_columns(table, action->targetList);
	}
}

static bool
collect(Node *node, void *context)
{
	Effects    *changes = (Effects *) context;

	if (node == NULL)
		return false;
	if (IsA(node, NextValueExpr) ||
		(IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_NEXTVAL))
		changes->has_nextval = true;
	if (IsA(node, Query))
	{
		add_query(changes, (Query *) node);
		return query_tree_walker((Query *) node, collect, context, 0);
	}
	return expression_tree_walker(node, collect, context);
}

/* Stored columns that are computed from changed ones change with them. */
static void
add_generated_columns(TableEffect *table)
{
	Relation	rel = table_open(table->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	Bitmapset  *changed = NULL;
	int			attno = -1;

	while ((attno = bms_next_member(table->columns, attno)) >= 0)
		changed = bms_add_member(changed, attno - FirstLowInvalidHeapAttributeNumber);
	for (int i = 0; i < desc->natts; i++)
	{
		Bitmapset  *read = NULL;

		if (TupleDescAttr(desc, i)->attgenerated != ATTRIBUTE_GENERATED_STORED)
			continue;
		pull_varattnos(build_column_default(rel, i + 1), 1, &read);
		if (bms_overlap(read, changed))
			table->columns = bms_add_member(table->columns, i + 1);
	}
	table_close(rel, AccessShareLock);
}

/*
 * What the queries change.  Opens the tables, which the queries have locked.
 */
Effects *
effects_collect(List *queries)
{
	Effects    *changes = palloc0(sizeof(Effects));
	ListCell   *lc;

	foreach(lc, queries)
		(void) collect((Node *) lfirst(lc), changes);
	foreach(lc, changes->tables)
	{
		TableEffect *table = lfirst(lc);

		if (table->update)
			add_generated_columns(table);
	}
	return changes;
}
