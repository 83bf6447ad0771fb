/*-------------------------------------------------------------------------
 *
 * effects.c
 *	  What a statement changes, as far as it can be told from its queries.
 *
 * Read from the analysed and rewritten queries, WITH queries included: the
 * tables that are written, in which way, and which of their columns an update
 * changes; and from the catalogs, what foreign keys with ON DELETE CASCADE and the
 * like do to other tables in consequence, and so on from there.  What functions
 * and other triggers do does not show there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

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

/* ---- foreign keys ---- */

/* Whether a trigger fires in a session like that of a worker. */
bool
effects_is_enabled(const Trigger *trigger)
{
	return trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN ||
		trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
}

/* A column of pg_constraint that is an array of attribute numbers, as a set. */
Bitmapset *
effects_key_columns(HeapTuple tuple, AttrNumber column)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(CONSTROID, tuple, column, &isnull);
	Bitmapset  *result = NULL;
	ArrayType  *array;
	int16	   *numbers;

	if (isnull)
		return NULL;
	array = DatumGetArrayTypeP(value);
	numbers = (int16 *) ARR_DATA_PTR(array);
	for (int i = 0; i < ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)); i++)
		result = bms_add_member(result, numbers[i]);
	return result;
}

/* Whether the foreign key does that to rows that refer to changed ones. */
bool
effects_has_consequence(Effects *changes, Oid constraint, CmdType operation)
{
	ListCell   *lc;

	foreach(lc, changes->consequences)
	{
		Consequence *consequence = lfirst(lc);

		if (consequence->constraint == constraint && consequence->operation == operation)
			return true;
	}
	return false;
}

/*
 * Note what the foreign key does by its action for the event, unless that is
 * known.  Returns whether it was not.
 */
static bool
add_consequence(Effects *changes, HeapTuple tuple, char action, bool is_delete)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	bool		cascades = action == FKCONSTR_ACTION_CASCADE;
	CmdType		operation = cascades && is_delete ? CMD_DELETE : CMD_UPDATE;
	Consequence *consequence;
	TableEffect *table;

	if ((!cascades && action != FKCONSTR_ACTION_SETNULL && action != FKCONSTR_ACTION_SETDEFAULT) ||
		effects_has_consequence(changes, form->oid, operation))
		return false;
	consequence = palloc(sizeof(Consequence));
	consequence->constraint = form->oid;
	consequence->relid = form->conrelid;
	consequence->operation = operation;
	changes->consequences = lappend(changes->consequences, consequence);

	table = find_table(changes, form->conrelid);
	if (operation == CMD_DELETE)
		table->delete = true;
	else
	{
		table->update = true;
		table->columns = bms_add_members(table->columns,
										 effects_key_columns(tuple, Anum_pg_constraint_conkey));
	}
	return true;
}

/* Follow the foreign keys that refer to the table.  Returns whether one is new. */
static bool
follow_table(Effects *changes, TableEffect *change)
{
	Relation	rel = table_open(change->relid, AccessShareLock);
	TriggerDesc *desc = rel->trigdesc;
	bool		found = false;

	for (int i = 0; desc && i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];
		HeapTuple	tuple;
		Form_pg_constraint form;

		if (RI_FKey_trigger_type(trigger->tgfoid) != RI_TRIGGER_PK ||
			trigger->tgisclone || !effects_is_enabled(trigger))
			continue;
		tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(trigger->tgconstraint));
		if (!HeapTupleIsValid(tuple))
			continue;
		form = (Form_pg_constraint) GETSTRUCT(tuple);
		if (change->delete && TRIGGER_FOR_DELETE(trigger->tgtype) &&
			add_consequence(changes, tuple, form->confdeltype, true))
			found = true;
		if (change->update && TRIGGER_FOR_UPDATE(trigger->tgtype) &&
			bms_overlap(effects_key_columns(tuple, Anum_pg_constraint_confkey), change->columns) &&
			add_consequence(changes, tuple, form->confupdtype, false))
			found = true;
		ReleaseSysCache(tuple);
	}
	table_close(rel, AccessShareLock);
	return found;
}

/* Follow all of them, as far as they lead. */
static void
follow_foreign_keys(Effects *changes)
{
	bool		found;

	do
	{
		found = false;
		for (int i = 0; i < list_length(changes->tables); i++)
		{
			if (follow_table(changes, list_nth(changes->tables, i)))
				found = true;
		}
	} while (found);
}

/*
 * What does that to the table beside the statement itself, for people: the name
 * of the foreign key if it is the only one that does.
 */
char *
effects_cause(Effects *changes, Oid relid, CmdType operation)
{
	Consequence *only = NULL;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, changes->consequences)
	{
		Consequence *consequence = lfirst(lc);

		if (consequence->relid != relid || consequence->operation != operation)
			continue;
		only = consequence;
		n++;
	}
	return n == 0 ? "a trigger or a function" : n > 1 ? "its foreign keys" :
		pstrdup(quote_identifier(get_constraint_name(only->constraint)));
}

/* ---- all of it ---- */

/*
 * What the queries change.  Opens the tables, which the queries have locked, and
 * those that refer to them.
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

		table->is_own = true;
		if (table->update)
			add_generated_columns(table);
	}
	follow_foreign_keys(changes);
	return changes;
}
