/*-------------------------------------------------------------------------
 *
 * repair.h
 *	  The repair of a row that failed, as it is run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_REPAIR_H
#define BACKFILL_ENGINE_REPAIR_H

#include "engine/claim.h"
#include "store/store.h"

extern bool repair_is_wanted(const Worker *worker, const ErrorData *error);
extern void repair_note(Worker *worker, const ErrorData *error);
extern ErrorData *repair_error(Worker *worker);
extern bool repair_run(Worker *worker, ParamListInfo statement);
extern void repair_record(Worker *worker, StoreSession *store);
extern void repair_done(Worker *worker);

#endif							/* BACKFILL_ENGINE_REPAIR_H */
