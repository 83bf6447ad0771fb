/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The process that runs batches of one run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_PROCESS_WORKER_H
#define BACKFILL_PROCESS_WORKER_H

#include "base/compat.h"

extern PGDLLEXPORT void backfill_worker_main(Datum arg);

#endif							/* BACKFILL_PROCESS_WORKER_H */
