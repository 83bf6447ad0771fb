/*-------------------------------------------------------------------------
 *
 * referring.c
 *	  Warnings about foreign keys that refer to a table that is changed.
 *
 * For each row that is deleted, or whose referenced columns change, the rows that
 * refer to it are looked up; without an index each look-up reads all of a table.
 * Where the partitions of a table have foreign keys of their own that do the same,
 * there is one warning for all of them, and it is about those without an index.
 *
 * Called by advice.c.  Nothing is executed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "rehearsal/effects.h"
#include "rehearsal/referring.h"
#include "rehearsal/scans.h"
#include "rehearsal/warning.h"
#include "rehearsal/words.h"

/* So many tables are named. */
#define NAMES_MAX			5

/* Foreign keys that do the same: one, or those of partitions of one table. */
typedef struct Referrer
{
	Oid			relid;			/* the table of the first */
	Oid			root;			/* that it is a partition of, or itself */
	bool		is_delete;		/* rows are deleted; else updated */
	char		consequence;	/* the action, or 0 if rows are only looked up */
	char	   *columns;		/* that refer */
	char	   *name;			/* of the first */
	int			keys;
	int			leaves;			/* tables with rows */
	List	   *bare;			/* those without an index */
} Referrer;

/* ---- indexes ---- */

/* The columns of a partition that have the names of those of the other table. */
static Bitmapset *
same_columns(Oid relid, const Bitmapset *columns, Oid partition)
{
	Bitmapset  *result = NULL;
	int			attno = -1;

	while ((attno = bms_next_member(columns, attno)) >= 0)
		result = bms_add_member(result, get_attnum(partition, get_attname(relid, attno, false)));
	return result;
}

/*
 * Add to what is known of the tables that hold rows of that one, which is itself or
 * its partitions.  The look-ups go into each.
 */
static void
look_for_indexes(Referrer *referrer, Oid relid, const Bitmapset *columns)
{
	bool		covered = scans_has_index(relid, columns);
	ListCell   *lc;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
	{
		referrer->leaves++;
		if (!covered)
			referrer->bare = lappend_oid(referrer->bare, relid);
		return;
	}
	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		Oid			leaf = lfirst_oid(lc);

		if (get_rel_relkind(leaf) == RELKIND_PARTITIONED_TABLE)
			continue;
		referrer->leaves++;
		if (!covered && !scans_has_index(leaf, same_columns(relid, columns, leaf)))
			referrer->bare = lappend_oid(referrer->bare, leaf);
	}
}

/* ---- collecting ---- */

/* The one of the list that does the same to partitions of the same table, or a new one. */
static Referrer *
get_referrer(List **referrers, const Referrer *like)
{
	Referrer   *result;
	ListCell   *lc;

	foreach(lc, *referrers)
	{
		result = lfirst(lc);
		if (like->root != like->relid && result->root == like->root &&
			result->is_delete == like->is_delete && result->consequence == like->consequence &&
			strcmp(result->columns, like->columns) == 0)
			return result;
	}
	result = palloc(sizeof(Referrer));
	*result = *like;
	*referrers = lappend(*referrers, result);
	return result;
}

/*
 * Add the foreign key, whose trigger that is, to the list of those that refer to the
 * table and are concerned by its change.
 */
void
referring_collect(List **referrers, Trigger *trigger, TableEffect *change, HeapTuple tuple,
				  Effects *changes)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	Bitmapset  *referenced = effects_key_columns(tuple, Anum_pg_constraint_confkey);
	Bitmapset  *referencing = effects_key_columns(tuple, Anum_pg_constraint_conkey);
	bool		is_delete = change->delete && TRIGGER_FOR_DELETE(trigger->tgtype);
	char		action = is_delete ? form->confdeltype : form->confupdtype;
	Referrer	like = {
		.relid = form->conrelid,
		.root = get_rel_relispartition(form->conrelid) ?
			llast_oid(get_partition_ancestors(form->conrelid)) : form->conrelid,
		.is_delete = is_delete,
		.columns = scans_column_names(form->conrelid, referencing),
		.name = pstrdup(NameStr(form->conname))
	};
	Referrer   *referrer;

	if (!is_delete && !(change->update && TRIGGER_FOR_UPDATE(trigger->tgtype) &&
						bms_overlap(referenced, change->columns)))
		return;
	if (effects_has_consequence(changes, form->oid,
								is_delete && action == FKCONSTR_ACTION_CASCADE ? CMD_DELETE : CMD_UPDATE))
		like.consequence = action;
	referrer = get_referrer(referrers, &like);
	referrer->keys++;
	look_for_indexes(referrer, form->conrelid, referencing);
}

/* ---- what is said ---- */

/* "foreign key x of table t refers", or "6 foreign keys of partitions of table t refer". */
static char *
subject(const Referrer *referrer)
{
	if (referrer->keys > 1)
		return psprintf("%d foreign keys of partitions of table %s refer", referrer->keys,
						words_table(referrer->root));
	return psprintf("foreign key %s of table %s refers", quote_identifier(referrer->name),
					words_table(referrer->relid));
}

/* Have an index created where there is none. */
static void
advise_index(List **warnings, const Referrer *referrer)
{
	int			n = list_length(referrer->bare);
	StringInfoData names;

	if (n == 0)
		return;

	/* one on the table is one on each of its partitions */
	if (n == referrer->leaves)
	{
		warning_hint(*warnings, psprintf("Create an index on table %s: without one each of these look-ups reads all of it.",
										 words_table(referrer->keys > 1 ? referrer->root : referrer->relid)));
		return;
	}
	initStringInfo(&names);
	for (int i = 0; i < n && i < NAMES_MAX; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 words_table(list_nth_oid(referrer->bare, i)));
	if (n > NAMES_MAX)
		appendStringInfo(&names, " and %d more", n - NAMES_MAX);
	warning_hint(*warnings, psprintf("Create an index on partition%s %s: without one each of these look-ups reads all of %s.",
									 n == 1 ? "" : "s", names.data, n == 1 ? "it" : "them"));
}

/* What becomes of the rows that refer. */
static const char *
action_words(char action)
{
	return action == FKCONSTR_ACTION_CASCADE ? "CASCADE" :
		action == FKCONSTR_ACTION_SETNULL ? "SET NULL" : "SET DEFAULT";
}

/* Warn of the foreign keys that were collected for the change of the table. */
void
referring_advise(List **warnings, List *referrers, TableEffect *change)
{
	ListCell   *lc;

	foreach(lc, referrers)
	{
		Referrer   *referrer = lfirst(lc);
		bool		deletes = referrer->is_delete && referrer->consequence == FKCONSTR_ACTION_CASCADE;
		bool		several = referrer->keys > 1;
		Oid			relid = several ? referrer->root : referrer->relid;

		if (referrer->consequence)
			warning_add(warnings, "foreign_key_cascade", relid,
						"%s to table %s ON %s %s: %s rows that refer to %s rows are %s, too",
						subject(referrer), words_table(change->relid),
						referrer->is_delete ? "DELETE" : "UPDATE",
						action_words(referrer->consequence), several ? "their" : "its",
						referrer->is_delete ? "deleted" : "updated",
						deletes ? "deleted" : "updated");
		else if (several && referrer->bare == NIL)
			continue;			/* each finds its rows, and there may be hundreds */
		else
			warning_add(warnings, "foreign_key", relid,
						"%s to table %s: rows of %s are looked up for each row",
						subject(referrer), words_table(change->relid), several ? "them" : "it");
		advise_index(warnings, referrer);
	}
}
