/*-------------------------------------------------------------------------
 *
 * advice.c
 *	  What may surprise somebody about a run that is yet to be started.
 *
 * Each warning is a line "Warning: ...", with a line "  Hint: ..." below it
 * where there is something to be done.  What is said comes from the catalogs,
 * the statistics and the analysed statement; nothing is executed.
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
#include "rehearsal/frame.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* A smaller share of rows in scope than that is sparse. */
#define SPARSE_SHARE		0.1
/* So much growth of a table is worth a word: a tenth of it, and 64 MB. */
#define GROWTH_SHARE		0.1
#define GROWTH_BYTES		(64.0 * 1024 * 1024)

pg_attribute_printf(2, 3) static void
warn(StringInfo out, const char *format,...)
{
	va_list		args;
	int			needed;

	appendStringInfoString(out, "Warning: ");
	for (;;)
	{
		va_start(args, format);
		needed = appendStringInfoVA(out, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(out, needed);
	}
	appendStringInfoChar(out, '\n');
}

static void
hint(StringInfo out, const char *text)
{
	appendStringInfo(out, "  Hint: %s\n", text);
}

/* The table as it would be written under the current search_path. */
static char *
table_name(Oid relid)
{
	return DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(relid)));
}

/* "a", "a, b" and so on. */
static void
append_name(StringInfo list, const char *name)
{
	appendStringInfo(list, "%s%s", list->len > 0 ? ", " : "", name);
}

/* ---- the walk ---- */

/* Whether the scope is about the first column of the key. */
static bool
scope_follows_key(Rehearsal *rehearsal)
{
	Walk	   *walk = rehearsal->walk;
	WalkRange	nothing = {0, false, 0};
	Statement  *query = statement_prepare_own(psprintf("SELECT FROM %s AS batch WHERE %s",
													   walk->target_name, STATEMENT_RANGE),
											  walk, &nothing, rehearsal->def->scope,
											  rehearsal->parameters);
	Query	   *parsed = linitial_node(Query, statement_queries(query));
	Bitmapset  *columns = NULL;

	pull_varattnos(parsed->jointree->quals, 1, &columns);
	return bms_is_member(walk->columns[0].attno - FirstLowInvalidHeapAttributeNumber,
						 columns);
}

static void
advise_scope(StringInfo out, Rehearsal *rehearsal, const Estimates *estimates)
{
	if (rehearsal->def->scope == NULL || rehearsal->rows_total < 1 ||
		estimates->rows_in_scope >= SPARSE_SHARE * rehearsal->rows_total ||
		scope_follows_key(rehearsal))
		return;
	warn(out, "about %.0f of %.0f rows are in scope, and no index on the scope leads to them: the walk reads every row",
		 estimates->rows_in_scope, rehearsal->rows_total);
	hint(out, "Raise batch_size, so that each batch finds some, or name a unique index in \"key\" that keeps them together.");
}

static void
advise_scan(StringInfo out, Rehearsal *rehearsal, const Estimates *estimates)
{
	List	   *family = find_all_inheritors(rehearsal->walk->target, NoLock, NULL);
	ListCell   *lc;

	foreach(lc, estimates->scanned)
	{
		Oid			relid = lfirst_oid(lc);

		if (!list_member_oid(family, relid) || estimates->batches < 2)
			continue;
		warn(out, "each batch reads all of table %s", table_name(relid));
		hint(out, relid == rehearsal->walk->target ?
			 "ANALYZE the table. Where the statement reads it a second time, by its own name, an index may help." :
			 "ANALYZE the table, and give it an index on the columns of the key.");
	}
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

static bool
is_enabled(Trigger *trigger)
{
	return trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN ||
		trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
}

static void
advise_triggers(StringInfo out, Relation rel, TableEffect *change)
{
	TriggerDesc *desc = rel->trigdesc;

	for (int i = 0; desc && i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];
		const char *event = NULL;

		if (trigger->tgisinternal || trigger->tgisclone || !is_enabled(trigger) ||
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
			warn(out, "trigger %s of table %s fires for each row that is %s",
				 quote_identifier(trigger->tgname), table_name(change->relid), event);
	}
}

/* Rules of the table for what is done to it. */
static void
advise_rules(StringInfo out, Relation rel, TableEffect *change)
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
			warn(out, "a rule of table %s rewrites the statement: see above what it has become",
				 table_name(change->relid));
	}
}

/* ---- foreign keys ---- */

/* A column of pg_constraint that is an array of attribute numbers. */
static Bitmapset *
constraint_columns(HeapTuple tuple, AttrNumber column, AttrNumber *first)
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
	*first = numbers[0];
	return result;
}

/* Whether an index finds rows of the table by one of the columns. */
static bool
has_index_on(Oid relid, const Bitmapset *columns)
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

/* A foreign key that refers to the table. */
static void
advise_referencing(StringInfo out, Trigger *trigger, TableEffect *change, HeapTuple tuple)
{
	AttrNumber	first;
	Bitmapset  *referenced = constraint_columns(tuple, Anum_pg_constraint_confkey, &first);
	Bitmapset  *referencing = constraint_columns(tuple, Anum_pg_constraint_conkey, &first);
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);

	if (!(change->delete && TRIGGER_FOR_DELETE(trigger->tgtype)) &&
		!(change->update && TRIGGER_FOR_UPDATE(trigger->tgtype) &&
		  bms_overlap(referenced, change->columns)))
		return;
	warn(out, "foreign key %s of table %s refers to table %s: rows of it are looked up for each row",
		 quote_identifier(NameStr(form->conname)), table_name(form->conrelid),
		 table_name(change->relid));
	if (!has_index_on(form->conrelid, referencing))
		hint(out, psprintf("Create an index on table %s: without one each of these look-ups reads all of it.",
						   table_name(form->conrelid)));
}

/* A foreign key of the table itself. */
static void
advise_referenced(StringInfo out, Trigger *trigger, TableEffect *change, HeapTuple tuple)
{
	AttrNumber	first;
	Bitmapset  *columns = constraint_columns(tuple, Anum_pg_constraint_conkey, &first);
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);

	if ((change->insert && TRIGGER_FOR_INSERT(trigger->tgtype)) ||
		(change->update && TRIGGER_FOR_UPDATE(trigger->tgtype) && !change->insert &&
		 bms_overlap(columns, change->columns)))
		warn(out, "foreign key %s of table %s is checked for each row: it reads and locks rows of table %s",
			 quote_identifier(NameStr(form->conname)), table_name(change->relid),
			 table_name(form->confrelid));
}

static void
advise_foreign_keys(StringInfo out, Relation rel, TableEffect *change)
{
	TriggerDesc *desc = rel->trigdesc;

	for (int i = 0; desc && i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];
		int			type = RI_FKey_trigger_type(trigger->tgfoid);
		HeapTuple	tuple;

		if (type == RI_TRIGGER_NONE || trigger->tgisclone || !is_enabled(trigger))
			continue;
		tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(trigger->tgconstraint));
		if (!HeapTupleIsValid(tuple))
			continue;
		if (type == RI_TRIGGER_PK)
			advise_referencing(out, trigger, change, tuple);
		else
			advise_referenced(out, trigger, change, tuple);
		ReleaseSysCache(tuple);
	}
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

/* Indexes because of which an updated row gets a new entry in every index. */
static void
advise_indexes(StringInfo out, Relation rel, TableEffect *change)
{
	StringInfoData names;
	int			n = 0;
	List	   *indexes;
	ListCell   *lc;

	if (!change->update)
		return;
	initStringInfo(&names);
	indexes = RelationGetIndexList(rel);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (compat_index_blocks_hot(index) && index_holds(index, change->columns))
		{
			append_name(&names, quote_identifier(RelationGetRelationName(index)));
			n++;
		}
		index_close(index, AccessShareLock);
	}
	if (n == 0)
		return;
	warn(out, "the statement changes columns of %d %s of table %s (%s): each updated row gets a new entry in all %d of its indexes",
		 n, n == 1 ? "index" : "indexes", table_name(change->relid), names.data,
		 list_length(indexes));
	hint(out, "If it can be, drop such an index before the run and create it again after it.");
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
advise_publications(StringInfo out, Relation rel, TableEffect *change)
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
	warn(out, "table %s is published by logical replication (%s): each change is sent to the subscribers, too",
		 table_name(change->relid), names.data);
	hint(out, "Watch how far they lag, and set max_replica_lag or max_slot_retained, which hold the run when they cannot keep up.");
}

/* What the target may grow by when no vacuum comes in between. */
static void
advise_growth(StringInfo out, Rehearsal *rehearsal, Relation rel,
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
	warn(out, "if no vacuum comes meanwhile, table %s may grow by %s, from %s: each updated row leaves a dead one",
		 table_name(RelationGetRelid(rel)),
		 TextDatumGetCString(DirectFunctionCall1(pg_size_pretty, Int64GetDatum((int64) growth))),
		 TextDatumGetCString(DirectFunctionCall1(pg_size_pretty, Int64GetDatum((int64) size))));
	if (rel->rd_rel->relkind == RELKIND_RELATION && RelationGetFillFactor(rel, HEAP_DEFAULT_FILLFACTOR) == HEAP_DEFAULT_FILLFACTOR)
		hint(out, "See that there is room on the disk, and that autovacuum can keep up; with fillfactor 100 full pages have no room for the new versions.");
	else
		hint(out, "See that there is room on the disk, and that autovacuum can keep up.");
}

/* ---- all of it ---- */

static void
advise_table(StringInfo out, Rehearsal *rehearsal, TableEffect *change,
			 const Estimates *estimates)
{
	Relation	rel = table_open(change->relid, AccessShareLock);

	advise_triggers(out, rel, change);
	advise_foreign_keys(out, rel, change);
	advise_indexes(out, rel, change);
	advise_publications(out, rel, change);
	if (change->update && change->relid == rehearsal->walk->target)
		advise_growth(out, rehearsal, rel, estimates);
	advise_rules(out, rel, change);
	table_close(rel, AccessShareLock);
}

/*
 * Append the warnings about the definition of the rehearsal.
 */
void
advice_append(StringInfo out, Rehearsal *rehearsal, const Estimates *estimates)
{
	Effects    *changes = effects_collect(statement_queries(rehearsal->statement));
	ListCell   *lc;

	advise_scope(out, rehearsal, estimates);
	advise_scan(out, rehearsal, estimates);
	foreach(lc, changes->tables)
		advise_table(out, rehearsal, lfirst(lc), estimates);
	if (changes->has_nextval)
	{
		warn(out, "the statement takes numbers from a sequence: numbers drawn by a preview, by explain with measure, or by a batch that is tried again, are not given back");
		hint(out, "If gaps matter, do not preview it.");
	}
	if (rehearsal->is_deferred)
		warn(out, "deferred triggers of this transaction are waiting: if a batch defers a trigger too, trying it out here fails");
}
