/*-------------------------------------------------------------------------
 *
 * advice.c
 *	  What may surprise somebody about a run that is yet to be started.
 *
 * What is said comes from the catalogs, the statistics and the analysed
 * statement; nothing is executed.  What the plans and the measured batches tell
 * is the affair of costs.c.
 *
 * Called in a rehearsal, as the owner of the definition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/partition.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "optimizer/optimizer.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteDefine.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "rehearsal/advice.h"
#include "rehearsal/effects.h"
#include "rehearsal/estimate.h"
#include "rehearsal/frame.h"
#include "rehearsal/referring.h"
#include "rehearsal/tally.h"
#include "rehearsal/warning.h"
#include "rehearsal/words.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* A smaller share of rows in scope than that is sparse. */
#define SPARSE_SHARE		0.1
/* So much growth of a table is worth a word: a tenth of it, and 64 MB. */
#define GROWTH_SHARE		0.1
#define GROWTH_BYTES		(64.0 * 1024 * 1024)

/* "a", "a, b" and so on. */
static void
append_name(StringInfo list, const char *name)
{
	appendStringInfo(list, "%s%s", list->len > 0 ? ", " : "", name);
}

/* ---- the walk ---- */

static void
advise_guess(List **warnings, Rehearsal *rehearsal, const Estimates *estimates)
{
	warning_add(warnings, "estimate_guess", rehearsal->walk->target,
				estimates->is_measured ?
				"the estimate of the planner is a guess: %s; the rows in scope are projected from the batches that were measured" :
				"the estimate is a guess: %s", estimates->guess);
	warning_hint(*warnings, estimates->remedy);
}

static void
advise_sparse(List **warnings, Rehearsal *rehearsal, const Estimates *estimates)
{
	AttrNumber	first = rehearsal->walk->columns[0].attno;

	if (rehearsal->def->scope == NULL || rehearsal->rows_total < 1 ||
		estimates->rows_in_scope >= SPARSE_SHARE * rehearsal->rows_total ||
		bms_is_member(first - FirstLowInvalidHeapAttributeNumber,
					  estimate_scope_columns(rehearsal)))
		return;
	warning_add(warnings, "sparse_scope", rehearsal->walk->target,
				"about %.0f of %.0f rows are in scope, and no index on the scope leads to them: the walk reads every row",
				estimates->rows_in_scope, rehearsal->rows_total);
	warning_hint(*warnings, "Raise batch_size, so that each batch finds some, or name an index in \"key\" that keeps them together.");
}

/* ---- triggers and rules ---- */

/* Whether an update of these columns fires the trigger. */
static bool
fires_for_columns(Trigger *trigger, const Bitmapset *columns)
{
	for (int i = 0; i < trigger->tgnattr; i++)
	{
		if (bms_is_member(trigger->tgattr[i], columns))
			return true;
	}
	return trigger->tgnattr == 0;
}

static void
advise_triggers(List **warnings, Relation rel, TableEffect *change)
{
	TriggerDesc *desc = rel->trigdesc;

	for (int i = 0; desc && i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];
		const char *event = NULL;

		if (trigger->tgisinternal || trigger->tgisclone || !effects_is_enabled(trigger) ||
			!TRIGGER_FOR_ROW(trigger->tgtype))
			continue;
		if (change->insert && TRIGGER_FOR_INSERT(trigger->tgtype))
			event = "inserted";
		if (change->delete && TRIGGER_FOR_DELETE(trigger->tgtype))
			event = "deleted";
		if (change->update && TRIGGER_FOR_UPDATE(trigger->tgtype) &&
			fires_for_columns(trigger, change->columns))
			event = "updated";
		if (event)
			warning_add(warnings, "trigger", change->relid,
						"trigger %s of table %s fires for each row that is %s",
						quote_identifier(trigger->tgname), words_table(change->relid), event);
	}
}

/* Rules of the table for what is done to it. */
static void
advise_rules(List **warnings, Relation rel, TableEffect *change)
{
	RuleLock   *rules = rel->rd_rules;

	for (int i = 0; rules && i < rules->numLocks; i++)
	{
		RewriteRule *rule = rules->rules[i];

		if (rule->enabled != RULE_FIRES_ON_ORIGIN && rule->enabled != RULE_FIRES_ALWAYS)
			continue;
		if ((rule->event == CMD_INSERT && change->insert) ||
			(rule->event == CMD_UPDATE && change->update) ||
			(rule->event == CMD_DELETE && change->delete))
			warning_add(warnings, "rule", change->relid,
						"a rule of table %s rewrites the statement: see above what it has become",
						words_table(change->relid));
	}
}

/* ---- foreign keys ---- */

/* A foreign key of the table itself. */
static void
advise_referenced(List **warnings, Trigger *trigger, TableEffect *change, HeapTuple tuple)
{
	Bitmapset  *columns = effects_key_columns(tuple, Anum_pg_constraint_conkey);
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);

	if ((change->insert && TRIGGER_FOR_INSERT(trigger->tgtype)) ||
		(change->update && TRIGGER_FOR_UPDATE(trigger->tgtype) && !change->insert &&
		 bms_overlap(columns, change->columns)))
		warning_add(warnings, "foreign_key", change->relid,
					"foreign key %s of table %s is checked for each row: it reads and locks rows of table %s",
					quote_identifier(NameStr(form->conname)), words_table(change->relid),
					words_table(form->confrelid));
}

static void
advise_foreign_keys(List **warnings, Relation rel, TableEffect *change, Effects *changes)
{
	TriggerDesc *desc = rel->trigdesc;
	List	   *referrers = NIL;

	for (int i = 0; desc && i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];
		int			type = RI_FKey_trigger_type(trigger->tgfoid);
		HeapTuple	tuple;

		if (type == RI_TRIGGER_NONE || trigger->tgisclone || !effects_is_enabled(trigger))
			continue;
		tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(trigger->tgconstraint));
		if (!HeapTupleIsValid(tuple))
			continue;
		if (type == RI_TRIGGER_PK)
			referring_collect(&referrers, trigger, change, tuple, changes);
		else if (change->is_own)
			advise_referenced(warnings, trigger, change, tuple);
		ReleaseSysCache(tuple);
	}
	referring_advise(warnings, referrers, change);
}

/* ---- indexes ---- */

/* Whether the index holds one of the columns, in whatever role. */
static bool
index_holds(Relation index, const Bitmapset *columns)
{
	Bitmapset  *read = NULL;
	int			attno = -1;

	for (int i = 0; i < index->rd_index->indnatts; i++)
	{
		if (bms_is_member(index->rd_index->indkey.values[i], columns))
			return true;
	}
	pull_varattnos((Node *) RelationGetIndexExpressions(index), 1, &read);
	pull_varattnos((Node *) RelationGetIndexPredicate(index), 1, &read);
	while ((attno = bms_next_member(columns, attno)) >= 0)
	{
		if (bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, read))
			return true;
	}
	return false;
}

/* Whether nothing but speed is lost without the index. */
static bool
is_droppable(Relation index)
{
	Form_pg_index form = index->rd_index;

	return !form->indisunique && !form->indisexclusion && !form->indisreplident &&
		!OidIsValid(get_index_constraint(RelationGetRelid(index)));
}

/* Indexes because of which an updated row gets a new entry in every index. */
static void
advise_indexes(List **warnings, Relation rel, TableEffect *change)
{
	StringInfoData names;
	StringInfoData droppable;
	int			n = 0;
	List	   *indexes;
	ListCell   *lc;

	if (!change->update)
		return;
	initStringInfo(&names);
	initStringInfo(&droppable);
	indexes = RelationGetIndexList(rel);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (compat_index_blocks_hot(index) && index_holds(index, change->columns))
		{
			append_name(&names, quote_identifier(RelationGetRelationName(index)));
			if (is_droppable(index))
				append_name(&droppable, quote_identifier(RelationGetRelationName(index)));
			n++;
		}
		index_close(index, AccessShareLock);
	}
	if (n == 0)
		return;
	warning_add(warnings, "indexed_columns", change->relid,
				"the statement changes columns of %d %s of table %s (%s): each updated row gets a new entry in all %d of its indexes",
				n, n == 1 ? "index" : "indexes", words_table(change->relid), names.data,
				list_length(indexes));
	if (droppable.len > 0)
		warning_hint(*warnings, psprintf("If it can be, drop %s before the run and create it again after it.",
						   droppable.data));
}

/* ---- replication, space, sequences ---- */

static bool
publishes(Publication *publication, TableEffect *change)
{
	return (change->insert && publication->pubactions.pubinsert) ||
		(change->update && publication->pubactions.pubupdate) ||
		(change->delete && publication->pubactions.pubdelete);
}

static void
advise_publications(List **warnings, Relation rel, TableEffect *change)
{
	List	   *oids = NIL;
	List	   *relids = list_concat(list_make1_oid(change->relid),
									 rel->rd_rel->relispartition ?
									 get_partition_ancestors(change->relid) : NIL);
	Oid			root = llast_oid(relids);
	StringInfoData names;
	ListCell   *lc;

	if (!is_publishable_relation(rel))
		return;
	initStringInfo(&names);
	relids = list_concat_unique_oid(relids, find_all_inheritors(change->relid, NoLock, NULL));
	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);

		oids = list_concat_unique_oid(oids, compat_publications(relid));
		oids = list_concat_unique_oid(oids, GetSchemaPublications(get_rel_namespace(relid)));
	}
	oids = list_concat_unique_oid(oids, compat_publications_of_all(root));
	foreach(lc, oids)
	{
		Publication *publication = GetPublication(lfirst_oid(lc));

		if (publishes(publication, change))
			append_name(&names, quote_identifier(publication->name));
	}
	if (names.len == 0)
		return;
	warning_add(warnings, "logical_replication", change->relid,
				"table %s is published by logical replication (%s): each change is sent to the subscribers, too",
				words_table(change->relid), names.data);
	warning_hint(*warnings, "Watch how far they lag, and set max_replica_lag or max_slot_retained, which hold the run when they cannot keep up.");
}

/* What the target may grow by when no vacuum comes in between. */
static void
advise_growth(List **warnings, Rehearsal *rehearsal, Relation rel,
			  const Estimates *estimates)
{
	double		size = 0;
	double		growth;
	ListCell   *lc;

	foreach(lc, find_all_inheritors(RelationGetRelid(rel), NoLock, NULL))
		size += DatumGetInt64(DirectFunctionCall1(pg_table_size, ObjectIdGetDatum(lfirst_oid(lc))));
	if (estimates->rows_table < 1)
		return;
	growth = size * Min(estimates->rows_in_scope / estimates->rows_table, 1);
	if (growth < GROWTH_SHARE * size || growth < GROWTH_BYTES)
		return;
	warning_add(warnings, "growth", RelationGetRelid(rel),
				rehearsal->settings.reuse_space ?
				"while somebody holds an old snapshot, table %s may grow by %s, from %s: each updated row leaves a dead one" :
				"if no vacuum comes meanwhile, table %s may grow by %s, from %s: each updated row leaves a dead one",
				words_table(RelationGetRelid(rel)), words_size(growth), words_size(size));
	if (rehearsal->settings.reuse_space)
		warning_hint(*warnings, "See that there is room on the disk, or set max_growth, which holds the run before the table grows by so much.");
	else if (rel->rd_rel->relkind == RELKIND_RELATION && RelationGetFillFactor(rel, HEAP_DEFAULT_FILLFACTOR) == HEAP_DEFAULT_FILLFACTOR)
		warning_hint(*warnings, "See that there is room on the disk, and that autovacuum can keep up; with fillfactor 100 full pages have no room for the new versions.");
	else
		warning_hint(*warnings, "See that there is room on the disk, and that autovacuum can keep up.");
}

/* ---- elsewhere ---- */

/* What was counted, for people: "deleted 3 rows of order_items by its_fkey". */
char *
advice_elsewhere(Effects *changes, const TallyCount *count)
{
	return psprintf("%s %.0f row%s %s %s by %s",
					count->operation == CMD_INSERT ? "inserted" :
					count->operation == CMD_UPDATE ? "updated" : "deleted",
					count->rows, count->rows == 1 ? "" : "s",
					count->operation == CMD_INSERT ? "into" : "of",
					words_table(count->relid),
					effects_cause(changes, count->relid, count->operation));
}

/* ---- all of it ---- */

static void
advise_table(List **warnings, Rehearsal *rehearsal, TableEffect *change, Effects *changes,
			 const Estimates *estimates)
{
	Relation	rel = table_open(change->relid, AccessShareLock);

	advise_triggers(warnings, rel, change);
	advise_foreign_keys(warnings, rel, change, changes);
	if (change->is_own)
		advise_indexes(warnings, rel, change);
	advise_publications(warnings, rel, change);
	if (change->update && change->relid == rehearsal->walk->target)
		advise_growth(warnings, rehearsal, rel, estimates);
	if (change->is_own)
		advise_rules(warnings, rel, change);
	table_close(rel, AccessShareLock);
}

/* Warn of an estimate that is a guess, and of few rows in scope. */
void
advice_scope(List **warnings, Rehearsal *rehearsal, const Estimates *estimates)
{
	if (estimates->guess)
		advise_guess(warnings, rehearsal, estimates);
	advise_sparse(warnings, rehearsal, estimates);
}

/* Warn of what the statement of the rehearsal changes, which is that. */
void
advice_changes(List **warnings, Rehearsal *rehearsal, Effects *changes,
			   const Estimates *estimates)
{
	ListCell   *lc;

	foreach(lc, changes->tables)
		advise_table(warnings, rehearsal, lfirst(lc), changes, estimates);
	if (changes->has_nextval)
	{
		warning_add(warnings, "sequence", InvalidOid,
					"the statement takes numbers from a sequence: numbers drawn by a preview, by explain with measure, or by a batch that is tried again, are not given back");
		warning_hint(*warnings, "If gaps matter, do not preview it.");
	}
	if (rehearsal->is_deferred)
		warning_add(warnings, "deferred_triggers", InvalidOid,
					"deferred triggers of this transaction are waiting: if a batch defers a trigger too, trying it out here fails");
}
