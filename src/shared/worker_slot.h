/*-------------------------------------------------------------------------
 *
 * worker_slot.h
 *	  The slots of workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_WORKER_SLOT_H
#define BACKFILL_SHARED_WORKER_SLOT_H

#include "shared/segment.h"

extern int	worker_slot_reserve(Oid database, Oid owner, int64 run_id);
extern void worker_slot_release(int slot, int64 token);
extern bool worker_slot_is_attached(int slot, int64 token, bool *alive);
extern void worker_slot_release_lost(Oid database);
extern int64 worker_slot_token(int slot);
extern int	worker_slot_count(Oid database, int64 run_id, int64 **tokens);
extern bool worker_slot_in_sync_rep(Oid database, int64 run_id);
extern void worker_slot_pardon(void);
extern int	worker_slot_pardoned(int64 **tokens);
extern void worker_slot_cancel(Oid database, int64 run_id, int64 stream);
extern bool worker_slot_attach(int slot, int64 token, WorkerSlot *copy);
extern bool worker_slot_is_cautious(void);
extern bool worker_slot_noticed(void);
extern void worker_slot_take_notice(void);
extern int	worker_slot_rank(void);
extern void worker_slot_ready(void);
extern const char *worker_slot_state_name(WorkerState state);
extern void worker_slot_take_stream(int64 stream);
extern int	worker_slot_streams(Oid database, int64 run_id, int64 **streams);
extern void worker_slot_show(WorkerState state, int64 batch, int attempt);
/* Not for a process that waits for its locks, but for all that wait for what it uses, too. */
#define YIELD_TO_ALL	(-1)

extern void worker_slot_yield(int slot, int64 token, int64 batch, pid_t to);
extern void worker_slot_yield_to_all(Oid database, int64 run_id, int64 longer);
extern int	worker_slot_long_batches(Oid database, WorkerSlot **copies, long *next);
extern pid_t worker_slot_take_yield(void);
extern void worker_slot_done(int64 rows_scanned, int64 rows_affected);
extern int	worker_slot_copy(Oid database, WorkerSlot **copies);
extern bool worker_slot_is_among(pid_t pid, const WorkerSlot *copies, int n);

#endif							/* BACKFILL_SHARED_WORKER_SLOT_H */
