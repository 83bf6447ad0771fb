/*-------------------------------------------------------------------------
 *
 * project.h
 *	  What follows for a whole run from some batches that were measured.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_PROJECT_H
#define BACKFILL_REHEARSAL_PROJECT_H

#include "rehearsal/estimate.h"
#include "rehearsal/frame.h"
#include "rehearsal/measure.h"

typedef struct Projection
{
	double		batch_size;		/* rows, as target_batch_time leads to */
	double		batches;
	double		workers;
	double		seconds;
	double		sleep_seconds;	/* of them */
	double		wal_bytes;
	double		growth_bytes;	/* of tables and indexes, */
	double		growth_without_reuse_bytes; /* and with reuse_space off */
} Projection;

extern double project_batch_ms(const Measurement *m, double size);
extern Projection *project_run(Rehearsal *rehearsal, const Estimates *estimates,
							   const Measurement *m);

#endif							/* BACKFILL_REHEARSAL_PROJECT_H */
