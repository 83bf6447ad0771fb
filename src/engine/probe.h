/*-------------------------------------------------------------------------
 *
 * probe.h
 *	  The owner's own reason to hold a run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_PROBE_H
#define BACKFILL_ENGINE_PROBE_H

#include "engine/session.h"

extern void probe_run(Session *session);

#endif							/* BACKFILL_ENGINE_PROBE_H */
