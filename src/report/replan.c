/*-------------------------------------------------------------------------
 *
 * replan.c
 *	  What the plan of a batch tells of a run that was slow.
 *
 * Which plans a run had is not kept.  Where its batches took long for their rows, or
 * whatever their rows were, the definition is rehearsed, as backfill_explain does without
 * measuring, and what it warns of about the costs of a batch is passed on: a table that each
 * batch reads in full, and by which columns.  It is what would happen today, and is said so.
 *
 * Only for callers with the rights of the owner, where the definition is still that of the
 * run.  What goes wrong here is no reason to be without a report.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/acl.h"
#include "utils/memutils.h"

#include "rehearsal/facts.h"
#include "rehearsal/frame.h"
#include "rehearsal/warning.h"
#include "report/replan.h"
#include "store/definition.h"

/* Statements that need less for a row are fast enough, in seconds. */
#define FAST_ROW		0.0001
/* What throttles a run whose batches cost much whatever their size. */
#define FIXED_COST		"batch cost"

/* The codes of warnings that are about what a batch costs. */
static const char *const codes[] = {"sequential_scan", "unpruned_partitions", "jit"};

/* What is rehearsed, and what comes of it. */
typedef struct Replan
{
	const FiguresRun *run;
	MemoryContext context;		/* of the warnings */
	List	   *warnings;
} Replan;

static bool
is_same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* Whether the definition is still that of the run; names in a generic one are bound. */
static bool
is_still_the_same(const FiguresRun *run, const DefinitionInfo *def)
{
	return def->owner == run->owner && def->target == run->target &&
		is_same(def->statement, run->statement) && is_same(def->scope, run->scope);
}

static bool
is_about_costs(const Warning *warning)
{
	for (int i = 0; i < lengthof(codes); i++)
	{
		if (strcmp(warning->code, codes[i]) == 0)
			return true;
	}
	return false;
}

/* In the rehearsal: keep the warnings about costs. */
static void
look(Rehearsal *rehearsal, void *arg)
{
	Replan	   *replan = (Replan *) arg;
	Facts	   *facts;
	ListCell   *lc;

	if (!is_still_the_same(replan->run, rehearsal->def))
		return;
	facts = facts_collect(rehearsal, false, NIL);
	foreach(lc, facts->warnings)
	{
		const Warning *warning = lfirst(lc);
		MemoryContext old;

		if (!is_about_costs(warning) || list_length(replan->warnings) >= EVALUATION_KINDS)
			continue;
		old = MemoryContextSwitchTo(replan->context);
		warning_add(&replan->warnings, warning->code, warning->relid, "as planned today, %s",
					warning->message);
		if (warning->hint)
			warning_hint(replan->warnings, pstrdup(warning->hint));
		MemoryContextSwitchTo(old);
	}
}

/* Rehearse it, and forget what goes wrong, but for a cancellation. */
static void
rehearse(Replan *replan)
{
	const FiguresRun *run = replan->run;

	PG_TRY();
	{
		frame_rehearse("backfill_report()", run->name, run->generic ? run->target : InvalidOid,
					   run->parameters, look, replan);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(replan->context);
		if (geterrcode() == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
}

/* Whether its batches were slow enough to ask for their plan. */
static bool
is_slow(const Evaluation *e)
{
	ListCell   *lc;

	foreach(lc, e->throttled)
	{
		if (strcmp(((const FiguresTime *) lfirst(lc))->name, FIXED_COST) == 0)
			return true;
	}
	return (e->batches.seconds - e->batches.lock_seconds) / Max(e->batches.rows, 1) > FAST_ROW;
}

/* Add what the plan of a batch tells to the lessons. */
void
replan_learn(Evaluation *e, Oid caller)
{
	Replan		replan = {.run = e->run, .context = CurrentMemoryContext};

	if (e->run->statement == NULL || RecoveryInProgress() ||
		!has_privs_of_role(caller, e->run->owner) || !is_slow(e))
		return;
	rehearse(&replan);
	e->lessons = list_concat(e->lessons, replan.warnings);
}
