/*-------------------------------------------------------------------------
 *
 * copy.h
 *	  The copy of its definition that a run keeps.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_COPY_H
#define BACKFILL_STORE_COPY_H

#include "utils/jsonb.h"

#include "store/definition.h"
#include "store/run.h"
#include "store/store.h"

extern bool store_stage_is_left(const RunInfo *run, Stage stage);
extern void store_set_finish(StoreSession *session, int64 id, const char *finish);
extern bool store_advance_stage(StoreSession *session, int64 id, Stage stage,
								const StageInfo *from, int step);
extern void store_replace_copy(StoreSession *session, int64 id, const DefinitionInfo *def,
							   Jsonb *parameters, Jsonb *parameter_types);

#endif							/* BACKFILL_STORE_COPY_H */
