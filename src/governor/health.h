/*-------------------------------------------------------------------------
 *
 * health.h
 *	  How the server is, by the measures that the settings of a run name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_GOVERNOR_HEALTH_H
#define BACKFILL_GOVERNOR_HEALTH_H

#include "settings/setting.h"
#include "store/run.h"

/* The measure that is closest to its limit. */
typedef struct Health
{
	const char *what;			/* setting, NULL if none is given */
	double		load;			/* share of the limit; from 1 on the run is held */
	char	   *reason;			/* NULL while the load is below soft_limit */
} Health;

extern void health_new_round(void);
extern void health_judge(const RunInfo *run, const RunSettings *settings,
						 Health *health);
extern double health_foreground(void);
extern char *health_oldest_snapshot(void);

#endif							/* BACKFILL_GOVERNOR_HEALTH_H */
