/*-------------------------------------------------------------------------
 *
 * divide.h
 *	  Dividing a batch that failed, and leaving a row out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DIVIDE_H
#define BACKFILL_DIVIDE_H

#include "worker.h"

/* Into so many parts a batch is divided to find the row that fails. */
#define DIVIDE_PARTS			8
/* The share of failed rows counts from so many on. */
#define DIVIDE_JUDGED_ROWS		50

extern bool divide_find_in_scope(Worker *worker, const Datum *start, bool start_inclusive,
								 const Datum *end, int64 offset, Datum *key);
extern void divide_batch(Worker *worker);
extern void divide_skip(Worker *worker);

#endif							/* BACKFILL_DIVIDE_H */
