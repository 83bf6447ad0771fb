/*-------------------------------------------------------------------------
 *
 * finish.h
 *	  The last step of a run, as it is run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_FINISH_H
#define BACKFILL_ENGINE_FINISH_H

#include "engine/session.h"

extern void finish_next(Session *session, void *arg);

#endif							/* BACKFILL_ENGINE_FINISH_H */
