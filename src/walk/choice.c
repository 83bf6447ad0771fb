/*-------------------------------------------------------------------------
 *
 * choice.c
 *	  Generic or custom plans, by what they were measured to take.
 *
 * A custom plan is made for each batch: it knows the range, and the statistics
 * of today.  A generic one saves the planning.  The plan cache chooses by the
 * planner's estimates of the first five executions, when batches are small.  Here
 * custom plans are used as long as planning them takes next to nothing of a
 * batch; otherwise a generic one is tried for a few batches, and the cheaper of the
 * two for each row, planning included, is kept until batches have quite another
 * size.
 *
 * Plain arithmetic, on the caller's memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "walk/choice.h"

/* Executions that a kind of plan is judged by. */
#define TRIALS			3
/* Planning matters from one part in so many of the execution on. */
#define WORTHWHILE		20
/* Batches of so many times the size, or of that part of it, ask anew. */
#define OTHER_SIZE		4
/* An estimate so many times as high is not even tried. */
#define TOO_RISKY		100

/*
 * Whether a plan may be tried, by the planner's estimate of its cost.  If it may
 * not, the choice falls on custom plans.
 */
bool
choice_is_acceptable(PlanChoice *choice, double estimate)
{
	if (!choice->generic)
		choice->estimate = estimate;
	else if (!choice->decided && estimate > choice->estimate * TOO_RISKY)
	{
		choice->generic = false;
		choice->decided = true;
		return false;
	}
	return true;
}

static void
begin_trials(PlanChoice *choice, bool generic)
{
	choice->generic = generic;
	choice->decided = false;
	choice->trials = 0;
	choice->cost[generic] = 0;
}

/* The statement was executed with the kind of plan that was chosen. */
void
choice_note(PlanChoice *choice, double planning, double execution, double rows)
{
	double		cost = (planning + execution) / Max(rows, 1);
	int			kind = choice->generic ? 1 : 0;

	if (choice->decided)
	{
		if (rows > choice->rows * OTHER_SIZE || rows * OTHER_SIZE < choice->rows)
			begin_trials(choice, false);
		return;
	}
	if (!choice->generic && planning * WORTHWHILE < execution)
	{
		begin_trials(choice, false);
		return;
	}
	choice->rows = choice->trials == 0 ? rows : Max(choice->rows, rows);
	choice->cost[kind] = choice->trials == 0 ? cost : Min(choice->cost[kind], cost);
	if (++choice->trials < TRIALS)
		return;
	if (!choice->generic)
		begin_trials(choice, true);
	else
	{
		choice->decided = true;
		choice->generic = choice->cost[1] < choice->cost[0];
	}
}
