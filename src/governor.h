/*-------------------------------------------------------------------------
 *
 * governor.h
 *	  The pace of the runs of a database, as the scheduler sets it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_GOVERNOR_H
#define BACKFILL_GOVERNOR_H

#include "catalog.h"
#include "pace.h"
#include "scale.h"

/* What is remembered of a run from round to round. */
typedef struct Governor
{
	Pace		pace;
	int64		batch_size;		/* to begin with, 0 for that of the settings */
	Scale		scale;
	TimestampTz said_at;		/* when the reason was last written */
} Governor;

extern void governor_round(void);
extern void governor_open_budget(CatalogSession *session);
extern void governor_set_pace(CatalogSession *session, RunInfo *run, Governor *governor,
							  int living);
extern void governor_save_size(CatalogSession *session, RunInfo *run);
extern bool governor_has_ledgers(const Governor *governor);

#endif							/* BACKFILL_GOVERNOR_H */
