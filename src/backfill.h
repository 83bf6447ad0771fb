/*-------------------------------------------------------------------------
 *
 * backfill.h
 *	  Server parameters and entry points of the processes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BACKFILL_H
#define BACKFILL_BACKFILL_H

#include "compat.h"
#include "rate.h"

#define BACKFILL_LIBRARY	"backfill"

extern int	backfill_max_workers;
extern int	backfill_event_retention;
extern RateLimit backfill_rate_limit;
extern RateLimit backfill_wal_rate_limit;

extern void launcher_register(void);

extern PGDLLEXPORT void backfill_launcher_main(Datum arg);
extern PGDLLEXPORT void backfill_scheduler_main(Datum arg);
extern PGDLLEXPORT void backfill_worker_main(Datum arg);

#endif							/* BACKFILL_BACKFILL_H */
