/*-------------------------------------------------------------------------
 *
 * probe.h
 *	  The owner's own reason to hold a run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_PROBE_H
#define BACKFILL_PROBE_H

#include "worker.h"

extern void probe_run(Worker *worker);

#endif							/* BACKFILL_PROBE_H */
