/*-------------------------------------------------------------------------
 *
 * scheduler_slot.h
 *	  The slots of schedulers, and what the launcher knows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_SCHEDULER_SLOT_H
#define BACKFILL_SHARED_SCHEDULER_SLOT_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

extern void scheduler_slot_attach_launcher(void);
extern bool scheduler_slot_take_requests(List **databases);
extern int	scheduler_slot_reserve(Oid database, bool *alive);
extern void scheduler_slot_release(int slot);
extern void scheduler_slot_note_room(bool room);
extern bool scheduler_slot_is_alive(Oid database);
extern const char *scheduler_slot_obstacle(void);
extern bool scheduler_slot_reap(Oid *database, TimestampTz *next_due, bool *failed);
extern bool scheduler_slot_attach(int slot, Oid *database);
extern bool scheduler_slot_finish(TimestampTz next_due);
extern bool scheduler_slot_take_wake(void);

#endif							/* BACKFILL_SHARED_SCHEDULER_SLOT_H */
