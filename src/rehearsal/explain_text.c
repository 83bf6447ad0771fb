/*-------------------------------------------------------------------------
 *
 * explain_text.c
 *	  What backfill_explain says, as lines of text.
 *
 * In the manner of EXPLAIN, for people.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "rehearsal/explain_text.h"
#include "rehearsal/heldlocks.h"
#include "rehearsal/warning.h"
#include "rehearsal/words.h"
#include "store/definition.h"
#include "walk/walk.h"

/* Locks on more tables than that are only counted. */
#define MOST_LOCKS			10

/* Append a text of several lines, each with an indent of two. */
static void
append_indented(StringInfo out, const char *text)
{
	while (*text)
	{
		int			length = strcspn(text, "\n");

		if (length > 0)
			appendStringInfo(out, "  %.*s\n", length, text);
		text += length;
		if (*text == '\n')
			text++;
	}
}

/* ---- what will be done ---- */

static void
append_rows(StringInfo out, const Facts *facts)
{
	const Estimates *estimates = &facts->estimates;
	Rehearsal  *rehearsal = facts->rehearsal;

	appendStringInfo(out, "  Rows: about %.0f in the table, %.0f in the range", estimates->rows_table,
					 rehearsal->rows_total);
	if (estimates->guess && rehearsal->def->scope && !estimates->is_measured)
		appendStringInfoString(out, "; how many of them are in scope is not known\n");
	else
		appendStringInfo(out, ", %.0f of them in scope%s\n", estimates->rows_in_scope,
						 estimates->is_measured ? ", as measured" : "");
	appendStringInfo(out, "  Batches: about %.0f of %.0f rows%s\n",
					 estimates->batches, estimates->batch_size,
					 facts->projection && rehearsal->settings.target_batch_time > 0 ?
					 ", as measured" : "");
}

static void
append_head(StringInfo out, const Facts *facts)
{
	Walk	   *walk = facts->rehearsal->walk;

	appendStringInfo(out, "Backfill %s of table %s\n",
					 quote_identifier(facts->rehearsal->def->name), walk->target_name);
	if (facts->rehearsal->stream)
		appendStringInfo(out, "  Stream: \"%s\", the first of %d; what follows is about it alone\n",
						 facts->rehearsal->stream->name, facts->rehearsal->streams);
	appendStringInfo(out, "  Key: %s%s\n",
					 walk->by_page ? KEY_OF_PAGES : quote_identifier(get_rel_name(walk->index)),
					 keykind_words(facts->rehearsal, &facts->kind));
	if (facts->from == NULL)
	{
		appendStringInfo(out, "  Range: there is no row in it%s\n",
						 facts->rehearsal->has_nulls ? ", but for those with a null in the key" : "");
		return;
	}
	appendStringInfo(out, "  Range: from %s to %s\n", words_key(facts->from), words_key(facts->to));
	append_rows(out, facts);
}

static void
append_statement(StringInfo out, const Facts *facts)
{
	int			n = facts->rehearsal->walk->nkeys;
	ListCell   *lc;

	appendStringInfo(out, "Statement of a batch, from key %s to %s:\n",
					 n == 1 ? "$1" : psprintf("$1 ... $%d", n),
					 n == 1 ? "$2" : psprintf("$%d ... $%d", n + 1, 2 * n));
	foreach(lc, facts->statements)
		append_indented(out, psprintf("%s;", (char *) lfirst(lc)));
	foreach(lc, facts->parameters)
	{
		UsedParameter *parameter = lfirst(lc);

		appendStringInfo(out, "%s$%d is %s",
						 lc == list_head(facts->parameters) ? "  Parameters: " : ", ",
						 parameter->number, parameter->name);
	}
	if (facts->parameters != NIL)
		appendStringInfoChar(out, '\n');
}

/* What is run once, if there is any of it. */
static void
append_stage(StringInfo out, const char *title, const char *text)
{
	if (text == NULL)
		return;
	appendStringInfo(out, "%s:\n", title);
	append_indented(out, text);
}

static void
append_plans(StringInfo out, const Facts *facts)
{
	appendStringInfoString(out, facts->plan_ran ? "Plan of a batch, as it ran:\n" : "Plan of a batch:\n");
	append_indented(out, facts->plan->text);
	if (facts->pruning.left < facts->pruning.partitions)
		appendStringInfo(out, "  Partitions: %d of %d, the others are pruned\n",
						 facts->pruning.left, facts->pruning.partitions);
	appendStringInfoString(out, "Plan of the search for the end of a batch:\n");
	append_indented(out, facts->search->text);
	append_stage(out, "First step, once, before all batches",
				 facts->rehearsal->def->stages[STAGE_PREPARE]);
	append_stage(out, "Last step, once, when all batches are done",
				 facts->rehearsal->def->stages[STAGE_FINISH]);
}

static void
append_warnings(StringInfo out, const Facts *facts)
{
	ListCell   *lc;

	foreach(lc, facts->warnings)
	{
		Warning    *warning = lfirst(lc);

		appendStringInfo(out, "Warning: %s\n", warning->message);
		if (warning->hint)
			appendStringInfo(out, "  Hint: %s\n", warning->hint);
	}
}

/* ---- what was measured ---- */

static void
append_locks(StringInfo out, const Measurement *m)
{
	ListCell   *lc;

	foreach(lc, m->locks)
	{
		HeldLock   *lock = lfirst(lc);

		if (foreach_current_index(lc) == MOST_LOCKS)
		{
			appendStringInfo(out, ", and on %d more tables", list_length(m->locks) - MOST_LOCKS);
			break;
		}
		appendStringInfo(out, "%s%s on %s", lc == list_head(m->locks) ? "  Locks: " : ", ",
						 words_lock_mode(lock->mode), words_table(lock->relid));
	}
	if (m->locks != NIL)
		appendStringInfoChar(out, '\n');
}

static void
append_measurement(StringInfo out, const Facts *facts)
{
	const Measurement *m = facts->m;
	double		rows = Max(m->rows, 1);
	double		seconds = Max((m->statement_ms + m->search_ms) / 1000, 1e-6);
	ListCell   *lc;

	appendStringInfo(out, "Measured in %d batches %s, all rolled back:\n", m->batches,
					 m->is_spread ? "spread across the range" : "at the start of the range");
	if (!m->is_spread)
		appendStringInfoString(out, "  Hint: ANALYZE the table, so that batches from everywhere can be measured.\n");
	appendStringInfo(out, "  Rows: %.0f in their ranges, %.0f processed\n", m->rows, m->affected);
	foreach(lc, facts->also)
	{
		AlsoChanged *also = lfirst(lc);

		appendStringInfo(out, "  Also %s; in the whole run about %.0f\n", also->text,
						 also->projected);
	}
	appendStringInfo(out, "  Rate: %.0f rows/s\n", rows / seconds);
	appendStringInfo(out, "  WAL: %.0f bytes per row\n", m->wal_bytes / rows);
	appendStringInfo(out, "  Buffers per 1000 rows: %.0f hit, %.0f read, %.0f dirtied, %.0f written\n",
					 1000 * m->hit / rows, 1000 * m->read / rows,
					 1000 * m->dirtied / rows, 1000 * m->written / rows);
	if (m->updated > 0)
		appendStringInfo(out, "  HOT: %.0f %% of the updates\n", 100 * m->hot / m->updated);
	append_locks(out, m);
	appendStringInfo(out, "  Longest statement: %.1f ms\n", m->longest_ms);
}

static void
append_projection(StringInfo out, const Projection *p)
{
	appendStringInfo(out, "Projected for the whole run, with %.0f %s:\n", p->workers,
					 p->workers > 1 ? "workers on as many idle cores" : "worker");
	appendStringInfo(out, "  Duration: %s, of which sleep: %s\n",
					 words_elapsed(p->seconds), words_elapsed(p->sleep_seconds));
	appendStringInfo(out, "  WAL: %s\n", words_size(p->wal_bytes));
	appendStringInfo(out, "  Growth of tables and indexes: %s", words_size(p->growth_bytes));
	if (p->growth_bytes < p->growth_without_reuse_bytes)
		appendStringInfo(out, ", or %s without reuse_space or beside an old snapshot",
						 words_size(p->growth_without_reuse_bytes));
	appendStringInfoString(out, ", if no vacuum comes meanwhile\n");
}

/* ---- all of it ---- */

void
explain_text_append(StringInfo out, const Facts *facts)
{
	append_head(out, facts);
	append_statement(out, facts);
	append_plans(out, facts);
	append_warnings(out, facts);
	if (facts->m == NULL)
		return;
	if (facts->projection == NULL)
	{
		appendStringInfoString(out, "Measured: no batch, nor a part of one, was without an error\n");
		return;
	}
	append_measurement(out, facts);
	append_projection(out, facts->projection);
}
