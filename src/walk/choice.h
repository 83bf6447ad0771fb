/*-------------------------------------------------------------------------
 *
 * choice.h
 *	  Generic or custom plans, by what they were measured to take.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_CHOICE_H
#define BACKFILL_WALK_CHOICE_H

/* What is known of one statement.  All zero to begin with; times in microseconds. */
typedef struct PlanChoice
{
	bool		fixed;			/* there is no choice */
	bool		generic;		/* the kind that is used next */
	bool		decided;
	int			trials;			/* of that kind, since the last decision */
	double		cost[2];		/* the least for a row, by kind */
	double		estimate;		/* the planner's, of the last custom plan */
	double		rows;			/* the most of a batch when it was decided */
} PlanChoice;

extern bool choice_is_acceptable(PlanChoice *choice, double estimate);
extern void choice_note(PlanChoice *choice, double planning, double execution,
						double rows);

#endif							/* BACKFILL_WALK_CHOICE_H */
