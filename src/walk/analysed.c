/*-------------------------------------------------------------------------
 *
 * analysed.c
 *	  What an analysed statement, with batch grafted into it, does with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "nodes/bitmapset.h"
#include "parser/parsetree.h"

#include "walk/analysed.h"

/* Raises an error if the list of new values has one for a column of the key. */
static void
check_new_values(List *targetlist, Walk *walk)
{
	ListCell   *lc;

	foreach(lc, targetlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		for (int i = 0; i < walk->nkeys && !entry->resjunk; i++)
		{
			if (entry->resno == walk->columns[i].attno ||
				bms_is_member(entry->resno - FirstLowInvalidHeapAttributeNumber,
							  walk->columns[i].attnos))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("the statement of a backfill cannot change the key column \"%s\"",
								walk->columns[i].name),
						 errdetail("The row would move to where the walk comes again."),
						 errhint("Name another unique index in \"key\".")));
		}
	}
}

/* Raises an error if the query, or one in its WITH, changes the key. */
void
analysed_check_key(Query *query, Walk *walk)
{
	ListCell   *lc;

	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (IsA(cte->ctequery, Query))
			analysed_check_key((Query *) cte->ctequery, walk);
	}
	if (query->resultRelation == 0 ||
		rt_fetch(query->resultRelation, query->rtable)->relid != walk->target)
		return;
	if (query->commandType == CMD_UPDATE)
		check_new_values(query->targetList, walk);
	if (query->onConflict)
		check_new_values(query->onConflict->onConflictSet, walk);
	foreach(lc, query->mergeActionList)
	{
		MergeAction *action = lfirst_node(MergeAction, lc);

		if (action->commandType == CMD_UPDATE)
			check_new_values(action->targetList, walk);
	}
}

/* What an analysed statement defines under that name in its WITH, or NULL. */
CommonTableExpr *
analysed_find_with(const Query *query, const char *name)
{
	ListCell   *lc;

	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (strcmp(cte->ctename, name) == 0)
			return cte;
	}
	return NULL;
}

/* Whether an analysed statement reads batch. */
bool
analysed_reads_batch(List *queries)
{
	ListCell   *lc;

	foreach(lc, queries)
	{
		const CommonTableExpr *batch = analysed_find_with(lfirst_node(Query, lc), WALK_BATCH);

		if (batch && batch->cterefcount > 0)
			return true;
	}
	return false;
}
