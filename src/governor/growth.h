/*-------------------------------------------------------------------------
 *
 * growth.h
 *	  How much the target of a run grows, and what keeps space from being used again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_GOVERNOR_GROWTH_H
#define BACKFILL_GOVERNOR_GROWTH_H

#include "datatype/timestamp.h"

#include "settings/setting.h"
#include "store/run.h"
#include "store/space.h"
#include "store/store.h"

/* What is remembered of a run from round to round; zeroed to begin with. */
typedef struct Growth
{
	bool		is_loaded;		/* what stands in the row of the run */
	SpaceInfo	space;
	TimestampTz due_at;			/* when to look at the sizes again */
	int64		limit;			/* of the growth, in bytes; 0 for none */
	int64		most;			/* that the run may reach beyond it, because space was freed */
	bool		is_held;
	int64		freed_then;		/* what its workers had freed when it was held */
	bool		knows_vacuums;
	int64		vacuums;		/* of the target, when that was last looked at, */
	int64		dead;			/* and its dead rows */
	int64		vacuumed;		/* what VACUUM has freed while it was held, in bytes, about */
	char		kept_by[256];	/* the text of space.kept_by */
} Growth;

extern char *growth_keeper(Oid database, int64 run_id);
extern char *growth_look(StoreSession *session, const RunInfo *run, const RunSettings *settings,
						 Growth *growth, const char *keeper, int64 freed);
extern void growth_note_end(StoreSession *session, const RunInfo *run, Growth *growth);

#endif							/* BACKFILL_GOVERNOR_GROWTH_H */
