/*-------------------------------------------------------------------------
 *
 * costs.c
 *	  What the plans and the measured batches tell of a run, as warnings.
 *
 * Everything here is about what each batch costs again: tables that it reads in
 * full, partitions that its bounds do not rule out, compiling, planning.  And about
 * batches that fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "jit/jit.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/fixedcost.h"
#include "rehearsal/costs.h"
#include "rehearsal/project.h"
#include "rehearsal/scans.h"
#include "rehearsal/warning.h"
#include "rehearsal/words.h"
#include "settings/setting.h"
#include "store/definition.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* To read a table in full that is smaller than that is what a good plan does. */
#define SCAN_BYTES			(256.0 * 1024)
/* So many partitions are few enough for any batch, */
#define FEW_PARTITIONS		5
/* and so are those that hold so many times the rows of a batch. */
#define PARTITIONS_ROWS		4

/* ---- scans ---- */

/* What may spare the batches the scan of a table that is not the target. */
static char *
scan_remedy(const TableScan *scan)
{
	char	   *table = words_table(scan->relid);
	char	   *columns = scans_column_names(scan->relid, scan->columns);

	if (scan->columns == NULL)
		return psprintf("An index on what the statement looks for in table %s may help; a larger batch_size means fewer scans.",
						table);
	if (scans_has_index(scan->relid, scan->columns))
		return psprintf("There is an index on what it looks for (%s), but to read all seems cheaper: ANALYZE both tables, or take a larger batch_size, which means fewer scans.",
						columns);
	return psprintf("Create an index on table %s: the statement looks for its rows by %s.",
					table, columns);
}

/* How much the scans of a table read in the whole run; more than one belong to rows. */
static double
scanned_bytes(const TableScan *scan, Rehearsal *rehearsal, const Estimates *estimates,
			  const Measurement *m)
{
	if (m && scan->times > 1)
		return scan->bytes * scan->times * rehearsal->rows_total / m->size;
	return scan->bytes * estimates->batches;
}

static void
advise_scan(List **warnings, Rehearsal *rehearsal, const Estimates *estimates,
			const TableScan *scan, const Measurement *m)
{
	bool		is_target = list_member_oid(find_all_inheritors(rehearsal->walk->target, NoLock, NULL),
											scan->relid);

	/* small partitions may well be what the batch is about */
	if (scan->bytes < SCAN_BYTES &&
		!(is_target && get_rel_relkind(scan->relid) != RELKIND_PARTITIONED_TABLE))
		return;
	warning_add(warnings, "sequential_scan", scan->relid,
				"each batch reads all of table %s, %s%s: in the whole run, of about %.0f batches, %s",
				words_table(scan->relid), words_size(scan->bytes),
				scan->times > 1 ? psprintf(", %.0f times", scan->times) : "",
				estimates->batches,
				words_size(scanned_bytes(scan, rehearsal, estimates, m)));
	warning_hint(*warnings, !is_target ? scan_remedy(scan) :
				 scan->relid == rehearsal->walk->target ?
				 "ANALYZE the table. Where the statement reads it a second time, by its own name, an index may help." :
				 "ANALYZE the table, and give it an index on the columns of the key.");
}

/* ---- partitions ---- */

/* How many of the target's partitions the plan of a batch looks into. */
Pruning
costs_pruning(Rehearsal *rehearsal, const PlanFacts *plan)
{
	Pruning		pruning = {0};
	ListCell   *lc;

	if (get_rel_relkind(rehearsal->walk->target) != RELKIND_PARTITIONED_TABLE)
		return pruning;
	foreach(lc, find_all_inheritors(rehearsal->walk->target, NoLock, NULL))
	{
		Oid			relid = lfirst_oid(lc);

		if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
			continue;
		pruning.partitions++;
		if (list_member_oid(plan->relids, relid))
			pruning.left++;
	}
	return pruning;
}

/*
 * Warn if a batch looks into many partitions.  Those that are small are no concern,
 * because it has to.
 */
static void
advise_pruning(List **warnings, Rehearsal *rehearsal, const PlanFacts *plan)
{
	Pruning		pruning = costs_pruning(rehearsal, plan);

	if (pruning.left <= FEW_PARTITIONS ||
		rehearsal->rows_total * pruning.left / pruning.partitions <=
		PARTITIONS_ROWS * (double) rehearsal->settings.batch_size)
		return;
	warning_add(warnings, "unpruned_partitions", rehearsal->walk->target,
				"each batch looks into %d of the %d partitions of table %s: the range of the key, by %s, does not tell which of them have its rows",
				pruning.left, pruning.partitions, words_table(rehearsal->walk->target),
				quote_identifier(rehearsal->walk->columns[0].name));
	warning_hint(*warnings, "Name a unique index in \"key\" that begins with the column by which the table is partitioned, or make a definition for each partition; larger batches mean fewer look-ups.");
}

/* ---- compiling ---- */

static void
advise_jit(List **warnings, const PlanFacts *plan)
{
	if (!plan->is_compiled)
		return;
	warning_add(warnings, "jit", InvalidOid,
				"each batch is compiled (JIT), because its plan costs %.0f and jit_above_cost is %.0f: that may take longer than the batch",
				plan->cost, jit_above_cost);
	warning_hint(*warnings, "Leave \"jit\" off, as it is in a worker unless somebody turns it on.");
}

/* ---- what is fixed ---- */

/* Say why so much is fixed, as far as that is known. */
static char *
fixed_reason(const Measurement *m, List *scans)
{
	double		planning = m->planning_ms / m->batches;
	StringInfoData tables;
	ListCell   *lc;

	if (planning > m->fixed_ms / 2)
		return psprintf(": planning alone takes %.0f ms", planning);
	initStringInfo(&tables);
	foreach(lc, scans)
	{
		TableScan  *scan = lfirst(lc);

		if (scan->bytes >= SCAN_BYTES)
			appendStringInfo(&tables, "%s%s", tables.len > 0 ? " and " : ": it reads all of table ",
							 words_table(scan->relid));
	}
	return tables.data;
}

/* Warn if a batch costs more as such than for its rows. */
static void
advise_fixed(List **warnings, Rehearsal *rehearsal, const Estimates *estimates,
			 const Measurement *m, List *scans)
{
	double		batch = project_batch_ms(m, rehearsal->settings.batch_size);
	double		target = rehearsal->settings.target_batch_time;

	if (!m->knows_fixed || m->fixed_ms * 1000 < FIXEDCOST_NOTABLE || estimates->batches < 2 ||
		!(m->fixed_ms > batch / 2 || (target > 0 && m->fixed_ms > target / 2)))
		return;
	warning_add(warnings, "fixed_cost", InvalidOid,
				"planning and starting a batch takes %.0f of %.0f ms%s",
				m->fixed_ms, batch, fixed_reason(m, scans));
	warning_hint(*warnings, m->planning_ms / m->batches > m->fixed_ms / 2 ?
				 "Larger batches mean fewer plans, and a statement with fewer tables and partitions is planned faster." :
				 "Larger batches mean that it comes less often; an index that spares the statement what it reads in full does more.");
}

/* ---- errors ---- */

static void
advise_errors(List **warnings, const Measurement *m, bool has_repair)
{
	const char *whose;

	if (m->failed == 0)
		return;
	whose = m->bad_key ? psprintf("One of the rows to blame has the key %s.", words_key(m->bad_key)) :
		"Parts of it were measured instead.";
	warning_add(warnings, "batch_error", InvalidOid,
				"a batch failed: %s, which %s", m->error,
				has_repair ? "a run would try to repair" : "on_error skip would skip");
	warning_hint(*warnings, has_repair ?
				 psprintf("%s Nothing is repaired here; a run skips the rows for which the repair does not help.", whose) :
				 psprintf("%s See that max_errors and max_error_rate allow for as many such rows as there are.", whose));
}

/* ---- all of it ---- */

/*
 * Warn of what each batch costs again, and of batches that fail.  Without a
 * measurement, which may be NULL, only the plan tells.
 */
void
costs_advise(List **warnings, Rehearsal *rehearsal, const Estimates *estimates,
			 const PlanFacts *plan, const Measurement *m)
{
	List	   *scans = scans_collect(plan->scans, statement_queries(rehearsal->statement));
	ListCell   *lc;

	if (estimates->batches >= 2)
	{
		foreach(lc, scans)
			advise_scan(warnings, rehearsal, estimates, lfirst(lc), m);
		advise_pruning(warnings, rehearsal, plan);
	}
	advise_jit(warnings, plan);
	if (m && m->batches > 0)
		advise_fixed(warnings, rehearsal, estimates, m, scans);
	if (m)
		advise_errors(warnings, m, rehearsal->settings.repair != NULL);
}
