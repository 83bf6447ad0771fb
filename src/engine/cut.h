/*-------------------------------------------------------------------------
 *
 * cut.h
 *	  What a worker does for clients: ranges cut ahead, and reported errors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_CUT_H
#define BACKFILL_ENGINE_CUT_H

#include "engine/claim.h"

extern void cut_begin(Worker *worker);
extern bool cut_serve(Worker *worker);
extern void cut_wait(Worker *worker, bool ended);

#endif							/* BACKFILL_ENGINE_CUT_H */
