/*-------------------------------------------------------------------------
 *
 * keykind.c
 *	  What the kind of its key means for the batches of a walk.
 *
 * Rows that share a key come in one batch, as do all with a null in it, however many they are.
 * How many that may be is read from the statistics of the columns: of several, the column
 * whose most frequent value is rarest has the last word.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_statistic.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "rehearsal/keykind.h"
#include "rehearsal/warning.h"
#include "walk/walk.h"

/* What the statistics say of a column. */
typedef struct ColumnShares
{
	double		most_frequent;	/* share of the rows that have the most frequent value */
	double		null;			/* share that has none */
} ColumnShares;

/* False if there are no statistics. */
static bool
read_shares(const Walk *walk, const WalkColumn *column, double rows, ColumnShares *shares)
{
	HeapTuple	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(walk->target),
										Int16GetDatum(column->attno),
										BoolGetDatum(walk->has_children));
	AttStatsSlot slot;
	Form_pg_statistic stats;
	double		distinct;

	if (!HeapTupleIsValid(tuple))
		return false;
	stats = (Form_pg_statistic) GETSTRUCT(tuple);
	distinct = stats->stadistinct < 0 ? -stats->stadistinct * rows : stats->stadistinct;
	shares->null = stats->stanullfrac;
	shares->most_frequent = 1 / Max(distinct, 1);
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_MCV, InvalidOid, ATTSTATSSLOT_NUMBERS))
	{
		if (slot.nnumbers > 0)
			shares->most_frequent = Max(slot.numbers[0], shares->most_frequent);
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	return true;
}

/* Of a table of so many rows, as far as that is known. */
void
keykind_find(Rehearsal *rehearsal, double rows_table, KeyKind *kind)
{
	const Walk *walk = rehearsal->walk;
	double		group = 1;
	double		filled = 1;
	bool		known = rows_table > 0;

	for (int i = 0; i < walk->nkeys && known && !walk->by_page; i++)
	{
		ColumnShares shares;

		known = read_shares(walk, &walk->columns[i], rows_table, &shares);
		group = known ? Min(group, shares.most_frequent) : group;
		filled *= known ? 1 - shares.null : 1;
	}
	kind->name = walk->by_page ? "pages" : walk->distinct ? "values" :
		walk->may_repeat ? "groups" : "rows";
	kind->largest_group = !walk->may_repeat ? 1 : known ? Max(group * rows_table, 1) : -1;
	kind->null_rows = !rehearsal->has_nulls ? 0 : known ? Max((1 - filled) * rows_table, 1) : -1;
}

/* The same for people, behind the name of the key; it may be empty. */
const char *
keykind_words(const Rehearsal *rehearsal, const KeyKind *kind)
{
	StringInfoData buf;

	initStringInfo(&buf);
	if (rehearsal->walk->by_page)
		return ", the pages of the table, again until nothing is in scope";
	appendStringInfoString(&buf, rehearsal->walk->descending ? ", descending" : ", ascending");
	if (rehearsal->walk->distinct)
		appendStringInfoString(&buf, ", one row for each value");
	else if (kind->largest_group > 1)
		appendStringInfo(&buf, ", in groups of at most about %.0f rows", kind->largest_group);
	else if (kind->largest_group < 0)
		appendStringInfoString(&buf, ", in groups whose size is not known");
	if (kind->null_rows > 0)
		appendStringInfo(&buf, ", then about %.0f rows with a null in it", kind->null_rows);
	else if (kind->null_rows < 0)
		appendStringInfoString(&buf, ", then the rows with a null in it");
	return buf.data;
}

/* Warn of what makes batches that are larger than they should be. */
void
keykind_advise(List **warnings, Rehearsal *rehearsal, const KeyKind *kind, double batch_size)
{
	Oid			target = rehearsal->walk->target;

	if (kind->largest_group < 0 || kind->null_rows < 0)
	{
		warning_add(warnings, "key_unknown", target,
					"there are no statistics that tell how many rows share a key, and come in one batch");
		warning_hint(*warnings, "Run ANALYZE on the table.");
	}
	if (kind->largest_group > batch_size)
	{
		warning_add(warnings, "large_group", target,
					"up to about %.0f rows share a key, and come in one batch, however large it is",
					kind->largest_group);
		warning_hint(*warnings, "Name an index in \"key\" that tells the rows apart, or is on more columns.");
	}
	if (kind->null_rows > batch_size)
	{
		warning_add(warnings, "null_range", target,
					"about %.0f rows have a null in the key, and are the last batch, all of them",
					kind->null_rows);
		warning_hint(*warnings, "Name another index in \"key\", or leave these rows out by the scope and do them in a run of their own.");
	}
}
