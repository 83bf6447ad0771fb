/*-------------------------------------------------------------------------
 *
 * share.h
 *	  Whose turn it is among the values of share_by.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_SHARE_H
#define BACKFILL_ENGINE_SHARE_H

#include "engine/claim.h"
#include "store/share.h"

extern void share_find_all(Worker *worker);
extern bool share_begin_turn(Worker *worker);
extern const ShareInfo *share_next(Worker *worker, int64 size);
extern void share_note_cut(Worker *worker, ArrayType *last_key, int64 rows);
extern void share_end_turn(Worker *worker);
extern bool share_is_any_left(const Worker *worker);
extern void share_forget(Worker *worker);

#endif							/* BACKFILL_ENGINE_SHARE_H */
