/*-------------------------------------------------------------------------
 *
 * failure.h
 *	  What a worker does about errors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_FAILURE_H
#define BACKFILL_ENGINE_FAILURE_H

#include "base/compat.h"
#include "engine/claim.h"
#include "engine/session.h"

compat_noreturn extern void failure_fail_run(Worker *worker, ErrorData *error);
compat_noreturn extern void failure_leave(Worker *worker, const char *message);
extern void failure_insist(Worker *worker, SessionFunction function);
extern void failure_prepare(Worker *worker);
extern bool failure_prepare_again(Worker *worker, const ErrorData *error);
extern void failure_note_retry(Session *session, const ErrorData *error);
extern void failure_wait_is_over(Worker *worker);
extern void failure_wait_for_suspect(Worker *worker);
extern void failure_wait_for_retry(Worker *worker, TimestampTz due, const char *reason);
extern void failure_give_back(Worker *worker);
extern void failure_divide_fitting(Worker *worker, int64 rows);
extern void failure_handle(Worker *worker, ErrorData *error);

#endif							/* BACKFILL_ENGINE_FAILURE_H */
