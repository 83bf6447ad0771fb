/*-------------------------------------------------------------------------
 *
 * session.h
 *	  The session of a worker: its transactions, its errors, its run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_SESSION_H
#define BACKFILL_ENGINE_SESSION_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "settings/setting.h"
#include "shared/segment.h"
#include "store/event.h"
#include "store/run.h"
#include "store/stream.h"

/* Who works, on which run, and how.  All of it is private to the process. */
typedef struct Session
{
	WorkerSlot	slot;			/* as it was when the worker attached */
	Oid			userid;			/* of the session */
	MemoryContext context;		/* lives as long as the process */
	MemoryContext loop_context; /* reset before each batch */
	MemoryContext run_context;	/* holds run, settings and hooks */

	RunInfo    *run;			/* NULL when it was deleted; with what the stream in hand has of its own */
	RunInfo    *whole;			/* the run without; NULL likewise */
	MemoryContext stream_context;	/* holds stream, and then run */
	int64		stream_id;		/* of that which the worker has taken, or 0 */
	StreamInfo *stream;			/* NULL for none, or when it was deleted */
	int64		walk_id;		/* what batches have for the number of their run: its own, or the stream's */
	Oid			table;			/* of the run, of which a stream may walk a partition */
	RunSettings settings;
	char	   *lock_timeout;	/* of the settings, as a parameter */
	Pace		pace;			/* as the scheduler has set it */

	List	   *hooks;			/* HookInfo *, for runs of this definition */
	bool		in_hook;		/* a hook is being called, or has raised an error */
	bool		hooks_off;		/* make a change without its hooks */
	uint32		saved_holdoff;	/* of cancellations, while a hook is called */
} Session;

/* What is tried: it starts and ends its own transactions. */
typedef void (*SessionFunction) (Session *session, void *arg);

extern void session_open(Session *session);
extern void session_begin(Session *session);
extern void session_commit(Session *session);
extern void session_note_waiting(Session *session, void *arg);
extern ErrorData *session_try(Session *session, SessionFunction function, void *arg);
extern ErrorData *session_try_uncancelled(Session *session, SessionFunction function,
										  void *arg);
extern int64 session_retry_delay(const Session *session, int tries);
extern void session_check_interrupts(void);
extern bool session_nap(int64 ms);
extern void session_doze(int64 ms);
extern int	session_enter_user_code(Session *session);
extern int	session_enter_statement(Session *session);
extern void session_carry_changes(Session *session);
extern void session_user_parameters(Session *session, bool on);
extern bool session_reload(Session *session);
extern void session_take_stream(Session *session, const StreamInfo *stream);
extern void session_note_event(Session *session, const EventInfo *event);

#endif							/* BACKFILL_ENGINE_SESSION_H */
