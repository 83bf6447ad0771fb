/*-------------------------------------------------------------------------
 *
 * ends.h
 *	  Where a walk begins and where it ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_ENDS_H
#define BACKFILL_ENGINE_ENDS_H

#include "engine/session.h"
#include "engine/work.h"
#include "walk/bounds.h"

extern bool ends_wait_for_writers(Session *session);
extern void ends_of_walk(Session *session, Work *work, WalkTexts *texts);
extern bool ends_find(Session *session, Work *work);

#endif							/* BACKFILL_ENGINE_ENDS_H */
