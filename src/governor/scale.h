/*-------------------------------------------------------------------------
 *
 * scale.h
 *	  The number of workers of a run with "workers": "auto".
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_GOVERNOR_SCALE_H
#define BACKFILL_GOVERNOR_SCALE_H

#include "settings/setting.h"

typedef struct Scale
{
	int			workers;		/* 0 until it has begun */
	int			ceiling;		/* more of them brought nothing, or 0 */
	TimestampTz ceiling_until;
	bool		grew;			/* the last change was one more */
	double		rate_before;	/* rows per second before that */
	TimestampTz changed_at;
} Scale;

extern int	scale_workers(Scale *scale, const RunSettings *settings, double load,
						  double rate, int most);

#endif							/* BACKFILL_GOVERNOR_SCALE_H */
