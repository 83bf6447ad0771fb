/*-------------------------------------------------------------------------
 *
 * stage.h
 *	  What is run once in a run, before and after its batches, as it is run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_STAGE_H
#define BACKFILL_ENGINE_STAGE_H

#include "engine/session.h"

extern void stage_next(Session *session, void *arg);

#endif							/* BACKFILL_ENGINE_STAGE_H */
