/*-------------------------------------------------------------------------
 *
 * change.h
 *	  Changes of a run that are made by a worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_CHANGE_H
#define BACKFILL_ENGINE_CHANGE_H

#include "base/compat.h"
#include "engine/claim.h"

extern bool change_begin_run(Worker *worker);
extern void change_prepare_run(Worker *worker);
compat_noreturn extern void change_carry_out(Worker *worker);

#endif							/* BACKFILL_ENGINE_CHANGE_H */
