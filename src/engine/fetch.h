/*-------------------------------------------------------------------------
 *
 * fetch.h
 *	  The pages of a source: asked for, fetched, and read back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_FETCH_H
#define BACKFILL_ENGINE_FETCH_H

#include "engine/claim.h"
#include "engine/session.h"

extern void fetch_check(Session *session, void *arg);
extern bool fetch_is_due(const Worker *worker);
extern int64 fetch_units(const Worker *worker);
extern void fetch_run(Session *session, void *arg);
extern void fetch_settle(const Worker *worker);
extern bool fetch_may_come(const ErrorData *error);
extern void fetch_read(Worker *worker, ParamListInfo params);
extern ArrayType *fetch_error_key(const BatchInfo *batch);

#endif							/* BACKFILL_ENGINE_FETCH_H */
