/*-------------------------------------------------------------------------
 *
 * staffing.h
 *	  The workers that a run should have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STAFFING_H
#define BACKFILL_STAFFING_H

#include "catalog.h"

extern const char *staffing_problem(RunInfo *run, const char **hint);
extern bool staffing_walk_is_claimed(CatalogSession *session, RunInfo *run);
extern int	staffing_wanted(CatalogSession *session, RunInfo *run, int living,
						   int most);

#endif							/* BACKFILL_STAFFING_H */
