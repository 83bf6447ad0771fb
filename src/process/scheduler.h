/*-------------------------------------------------------------------------
 *
 * scheduler.h
 *	  The process that looks after the runs of one database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_PROCESS_SCHEDULER_H
#define BACKFILL_PROCESS_SCHEDULER_H

#include "base/compat.h"

extern PGDLLEXPORT void backfill_scheduler_main(Datum arg);

#endif							/* BACKFILL_PROCESS_SCHEDULER_H */
