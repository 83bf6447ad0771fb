/*-------------------------------------------------------------------------
 *
 * governor.h
 *	  The pace of the runs of a database, as the scheduler sets it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_GOVERNOR_GOVERNOR_H
#define BACKFILL_GOVERNOR_GOVERNOR_H

#include "governor/growth.h"
#include "governor/health.h"
#include "governor/scale.h"
#include "settings/setting.h"
#include "settings/window.h"
#include "shared/segment.h"
#include "store/run.h"
#include "store/store.h"

/* What is remembered of a run from round to round; zeroed to begin with. */
typedef struct Governor
{
	MemoryContext context;		/* of the settings, as long as they hold */
	Jsonb	   *given;			/* what they were resolved from, NULL for nothing */
	pg_tz	   *zone;			/* of windows that name none, then */
	TimestampTz resolved_at;
	RunSettings settings;		/* at the hour of this round, */
	WindowMatch match;			/* the window that made them so, */
	Health		health;			/* and how the server is then */
	double		load;			/* of all that, for the number of workers */
	char	   *keeper;			/* who keeps space, in this round */
	Growth		growth;
	Pace		pace;
	int64		batch_size;		/* to begin with, 0 for that of the settings */
	Scale		scale;
	TimestampTz said_at;		/* when the reason was last written */
	const char *counted_by;		/* what throttles the run since, a literal, or NULL, */
	TimestampTz counted_at;		/* the last round, for the metrics */
} Governor;

extern void governor_round(void);
extern bool governor_has_ledgers(const Governor *governor);
extern void governor_note_end(StoreSession *session, RunInfo *run, Governor *governor);
extern void governor_save_size(StoreSession *session, RunInfo *run);
extern void governor_open_budget(StoreSession *session);
extern void governor_judge(const RunInfo *run, Governor *governor);
extern void governor_forget(Governor *governor);
extern void governor_set_pace(StoreSession *session, RunInfo *run, Governor *governor,
							  int living);

#endif							/* BACKFILL_GOVERNOR_GOVERNOR_H */
