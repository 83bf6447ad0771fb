/*-------------------------------------------------------------------------
 *
 * run_slot.h
 *	  The slots of runs that have workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_RUN_SLOT_H
#define BACKFILL_SHARED_RUN_SLOT_H

#include "shared/segment.h"

extern void run_slot_forget_database(Oid database);
extern void run_slot_open(Oid database, int64 run_id, const Pace *pace,
						  int64 batch_size);
extern void run_slot_close_idle(Oid database, TimestampTz since);
extern bool run_slot_take_times(Oid database, int64 run_id, int64 *times);
extern int64 run_slot_ready(Oid database, int64 run_id);
extern void run_slot_sample(Oid database);
extern int	run_slot_note_cut(Oid database, int64 run_id, int known);
extern void run_slot_set_pending(Oid database, int64 run_id, TimestampTz due);
extern bool run_slot_has_pending(Oid database, int64 run_id, int *changes,
								 TimestampTz *due);
extern void run_slot_clear_pending(Oid database, int64 run_id, int changes,
								   TimestampTz due);
extern void run_slot_note_space(int64 freed, TimestampTz kept_since, int64 part);
extern TimestampTz run_slot_kept_since(Oid database, int64 run_id);
extern int	run_slot_copy(Oid database, RunSlot **copies);

#endif							/* BACKFILL_SHARED_RUN_SLOT_H */
