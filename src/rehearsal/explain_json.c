/*-------------------------------------------------------------------------
 *
 * explain_json.c
 *	  What backfill_explain says, as JSON.
 *
 * For programs: a job that compares what a run would cost with what it may.  The
 * keys are documented, and stay.  What is not known, or was not asked for, is null;
 * no key is ever missing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "rehearsal/document.h"
#include "rehearsal/explain_json.h"
#include "rehearsal/heldlocks.h"
#include "rehearsal/warning.h"
#include "rehearsal/words.h"
#include "settings/setting.h"
#include "store/definition.h"
#include "walk/walk.h"

/* ---- what will be done ---- */

/* A number that is below 0 where it is not known. */
static void
write_known(Document *document, const char *key, double value)
{
	if (value < 0)
		document_null(document, key);
	else
		document_number(document, key, value, 0);
}

static void
write_walk(Document *document, const Walk *walk, const KeyKind *kind)
{
	document_text(document, "target", walk->target_name);
	document_open(document, "key", '{');
	document_text(document, "index", walk->by_page ? NULL : get_rel_name(walk->index));
	document_text(document, "kind", kind->name);
	write_known(document, "largest_group", kind->largest_group);
	write_known(document, "null_rows", kind->null_rows);
	document_open(document, "columns", '[');
	for (int i = 0; i < walk->nkeys; i++)
		document_text(document, NULL, walk->columns[i].name);
	document_close(document, ']');
	document_text(document, "direction", walk->descending ? "desc" : "asc");
	document_close(document, '}');
}

/* A key: a text, or an array of them if it has several columns. */
static void
write_key(Document *document, const char *name, ArrayType *key)
{
	Datum	   *elements;
	int			n;

	deconstruct_array(key, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	if (n > 1)
		document_open(document, name, '[');
	for (int i = 0; i < n; i++)
		document_text(document, n > 1 ? NULL : name, TextDatumGetCString(elements[i]));
	if (n > 1)
		document_close(document, ']');
}

static void
write_range(Document *document, const Facts *facts)
{
	const Estimates *estimates = &facts->estimates;
	Rehearsal  *rehearsal = facts->rehearsal;

	if (facts->from)
	{
		document_open(document, "range", '{');
		write_key(document, "from", facts->from);
		write_key(document, "to", facts->to);
		document_close(document, '}');
	}
	else
		document_null(document, "range");
	document_open(document, "rows", '{');
	document_number(document, "table", estimates->rows_table, 0);
	document_number(document, "range", rehearsal->rows_total, 0);
	document_number(document, "in_scope", estimates->rows_in_scope, 0);
	document_bool(document, "in_scope_known",
				  estimates->guess == NULL || rehearsal->def->scope == NULL ||
				  estimates->is_measured);
	document_bool(document, "in_scope_measured", estimates->is_measured);
	document_close(document, '}');
	document_number(document, "batch_size", estimates->batch_size, 0);
	document_number(document, "batches", estimates->batches, 0);
}

static void
write_statement(Document *document, const Facts *facts)
{
	ListCell   *lc;

	document_open(document, "statement", '[');
	foreach(lc, facts->statements)
	{
		const char *statement = lfirst(lc);

		/* deparsed for people they are indented */
		document_text(document, NULL, statement + strspn(statement, " "));
	}
	document_close(document, ']');
	document_open(document, "parameters", '{');
	foreach(lc, facts->parameters)
	{
		UsedParameter *parameter = lfirst(lc);

		document_text(document, psprintf("$%d", parameter->number), parameter->name);
	}
	document_close(document, '}');
	document_text(document, "prepare", facts->rehearsal->def->stages[STAGE_PREPARE]);
	document_text(document, "finish", facts->rehearsal->def->stages[STAGE_FINISH]);
}

static void
write_plans(Document *document, const Facts *facts)
{
	document_open(document, "plans", '{');
	document_text(document, "batch", facts->plan->text);
	document_bool(document, "batch_ran", facts->plan_ran);
	document_text(document, "search", facts->search->text);
	if (facts->pruning.partitions > 0)
	{
		document_open(document, "partitions", '{');
		document_number(document, "all", facts->pruning.partitions, 0);
		document_number(document, "left", facts->pruning.left, 0);
		document_close(document, '}');
	}
	else
		document_null(document, "partitions");
	document_close(document, '}');
}

/* ---- what was measured ---- */

static void
write_locks(Document *document, const Measurement *m)
{
	ListCell   *lc;

	document_open(document, "locks", '[');
	foreach(lc, m->locks)
	{
		HeldLock   *lock = lfirst(lc);

		document_open(document, NULL, '{');
		document_text(document, "table", words_table(lock->relid));
		document_text(document, "mode", words_lock_mode(lock->mode));
		document_close(document, '}');
	}
	document_close(document, ']');
}

/* A number that nothing is known of where there is nothing to divide by. */
static void
write_quotient(Document *document, const char *key, double value, double by, int decimals)
{
	if (by > 0)
		document_number(document, key, value / by, decimals);
	else
		document_null(document, key);
}

static void
write_buffers(Document *document, const Measurement *m)
{
	document_open(document, "buffers_per_1000_rows", '{');
	write_quotient(document, "hit", 1000 * m->hit, m->rows, 1);
	write_quotient(document, "read", 1000 * m->read, m->rows, 1);
	write_quotient(document, "dirtied", 1000 * m->dirtied, m->rows, 1);
	write_quotient(document, "written", 1000 * m->written, m->rows, 1);
	document_close(document, '}');
}

static void
write_measurement(Document *document, const Measurement *m)
{
	if (m == NULL)
	{
		document_null(document, "measured");
		return;
	}
	document_open(document, "measured", '{');
	document_number(document, "batches", m->batches, 0);
	document_bool(document, "spread", m->is_spread);
	document_number(document, "rows", m->rows, 0);
	document_number(document, "processed", m->affected, 0);
	write_quotient(document, "rows_per_second", m->rows, (m->statement_ms + m->search_ms) / 1000, 1);
	write_quotient(document, "wal_bytes_per_row", m->wal_bytes, m->rows, 1);
	write_buffers(document, m);
	write_quotient(document, "hot_fraction", m->hot, m->updated, 4);
	write_quotient(document, "statement_ms", m->statement_ms, m->batches, 3);
	document_number(document, "longest_ms", m->longest_ms, 3);
	write_quotient(document, "planning_ms", m->planning_ms, m->batches, 3);
	if (m->knows_fixed)
		document_number(document, "fixed_ms", m->fixed_ms, 3);
	else
		document_null(document, "fixed_ms");
	document_number(document, "failed_batches", m->failed, 0);
	document_number(document, "bad_rows", m->bad_rows, 0);
	write_locks(document, m);
	document_close(document, '}');
}

static void
write_also(Document *document, const Facts *facts)
{
	ListCell   *lc;

	document_open(document, "also_changed", '[');
	foreach(lc, facts->also)
	{
		AlsoChanged *also = lfirst(lc);

		document_open(document, NULL, '{');
		document_text(document, "table", words_table(also->relid));
		document_text(document, "operation", also->operation == CMD_INSERT ? "insert" :
					  also->operation == CMD_UPDATE ? "update" : "delete");
		document_number(document, "rows", also->rows, 0);
		document_number(document, "projected_rows", also->projected, 0);
		document_text(document, "cause", also->cause);
		document_close(document, '}');
	}
	document_close(document, ']');
}

static void
write_projection(Document *document, const Projection *projection)
{
	if (projection == NULL)
	{
		document_null(document, "projected");
		return;
	}
	document_open(document, "projected", '{');
	document_number(document, "seconds", projection->seconds, 3);
	document_number(document, "sleep_seconds", projection->sleep_seconds, 3);
	document_number(document, "wal_bytes", projection->wal_bytes, 0);
	document_number(document, "growth_bytes", projection->growth_bytes, 0);
	document_number(document, "growth_without_reuse_bytes", projection->growth_without_reuse_bytes, 0);
	document_number(document, "workers", projection->workers, 0);
	document_number(document, "batches", projection->batches, 0);
	document_number(document, "batch_size", projection->batch_size, 0);
	document_close(document, '}');
}

static void
write_warnings(Document *document, const Facts *facts)
{
	ListCell   *lc;

	document_open(document, "warnings", '[');
	foreach(lc, facts->warnings)
	{
		Warning    *warning = lfirst(lc);

		document_open(document, NULL, '{');
		document_text(document, "code", warning->code);
		document_text(document, "table", OidIsValid(warning->relid) ?
					  words_table(warning->relid) : NULL);
		document_text(document, "message", warning->message);
		document_text(document, "hint", warning->hint);
		document_close(document, '}');
	}
	document_close(document, ']');
}

/* ---- all of it ---- */

void
explain_json_append(StringInfo out, const Facts *facts)
{
	Document	document = {out};

	document_open(&document, NULL, '{');
	document_text(&document, "definition", facts->rehearsal->def->name);
	document_text(&document, "stream", facts->rehearsal->stream ?
				  facts->rehearsal->stream->name : NULL);
	write_known(&document, "streams", facts->rehearsal->stream ?
				facts->rehearsal->streams : -1);
	write_walk(&document, facts->rehearsal->walk, &facts->kind);
	write_range(&document, facts);
	write_statement(&document, facts);
	write_plans(&document, facts);
	write_measurement(&document, facts->m);
	write_projection(&document, facts->projection);
	write_also(&document, facts);
	write_warnings(&document, facts);
	document_close(&document, '}');
}
