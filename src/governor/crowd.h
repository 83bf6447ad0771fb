/*-------------------------------------------------------------------------
 *
 * crowd.h
 *	  Whether sessions suffer from what batches write.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_GOVERNOR_CROWD_H
#define BACKFILL_GOVERNOR_CROWD_H

#include "datatype/timestamp.h"

/* What the scheduler has seen of them; to begin with, all zeroes. */
typedef struct Crowd
{
	TimestampTz looked_at;
	TimestampTz since;			/* of the present sample */
	int			looks;			/* in it */
	int			waiting;		/* sessions that waited, in all of those looks together */
	bool		is_crowded;
	double		level;			/* sessions that wait, of the last samples, the latest the most */
	TimestampTz crowded_at;		/* when a sample last said so */
} Crowd;

extern long crowd_look(Crowd *crowd);

#endif							/* BACKFILL_GOVERNOR_CROWD_H */
