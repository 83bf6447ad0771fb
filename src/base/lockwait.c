/*-------------------------------------------------------------------------
 *
 * lockwait.c
 *	  How long this process waits for locks.
 *
 * The server keeps no sum of it, so a timer looks now and then whether the
 * process is waiting; each such look stands for the time since the last.  The
 * first looks at a wait are a hundredth of a second apart, later ones an eighth
 * of what it has lasted: each look wakes the process, and with log_lock_waits
 * each waking beyond deadlock_timeout is a message.  So the sum is good to an
 * eighth of each wait, enough to tell a batch that was held up from one that was
 * slow.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/proc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/lockwait.h"

#define LOOK_MS		10
#define PART_OF_WAIT	8

static TimeoutId timer = MAX_TIMEOUTS;
static TimestampTz last_look;
static int64 waited;

/*
 * In the signal handler of the timer.  A process that is terminated in the middle
 * of a statement has lost its entry before it has lost its timers.
 */
static void
look(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		next = LOOK_MS;

	if (MyProc == NULL)
		return;
	if (MyProc->waitLock != NULL)
	{
		TimestampTz start = (TimestampTz) pg_atomic_read_u64(&MyProc->waitStart);

		/* it may have begun to wait again since the last look */
		waited += now - Max(last_look, start);
		if (start != 0)
			next = Max(next, (now - start) / 1000 / PART_OF_WAIT);
	}
	last_look = now;
	enable_timeout_after(timer, (int) Min(next, PG_INT32_MAX));
}

/* Begin to count. */
void
lockwait_begin(void)
{
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, look);
	waited = 0;
	last_look = GetCurrentTimestamp();
	enable_timeout_after(timer, LOOK_MS);
}

/*
 * Stop counting.  Returns the time spent in waiting since lockwait_begin, in
 * microseconds.  After an error the server has stopped the timer.
 */
int64
lockwait_end(void)
{
	disable_timeout(timer, false);
	return waited;
}
