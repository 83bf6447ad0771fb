/*-------------------------------------------------------------------------
 *
 * closing.h
 *	  Changes of a run that are made by a worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_CLOSING_H
#define BACKFILL_CLOSING_H

#include "worker.h"

extern bool closing_begin_run(Worker *worker);
extern void closing_carry_out(Worker *worker);

#endif							/* BACKFILL_CLOSING_H */
