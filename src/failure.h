/*-------------------------------------------------------------------------
 *
 * failure.h
 *	  What a worker does about errors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_FAILURE_H
#define BACKFILL_FAILURE_H

#include "compat.h"
#include "worker.h"

extern bool failure_is_retryable(ErrorData *error);
extern int64 failure_retry_delay(Worker *worker, int tries);
extern void failure_note_retry(Worker *worker, ErrorData *error);
extern void failure_wait_for_retry(Worker *worker);
compat_noreturn extern void failure_fail_run(Worker *worker, ErrorData *error);
compat_noreturn extern void failure_leave(Worker *worker, const char *error);
extern void failure_insist(Worker *worker, void (*function) (Worker *));
extern bool failure_prepare_again(Worker *worker, ErrorData *error);
extern void failure_give_back(Worker *worker);
extern void failure_divide_fitting(Worker *worker, int64 rows);
extern void failure_handle(Worker *worker, ErrorData *error);

#endif							/* BACKFILL_FAILURE_H */
