/*-------------------------------------------------------------------------
 *
 * lockwait.c
 *	  How long this process waits for locks.
 *
 * The server keeps no sum of it, so a timer looks now and then whether the
 * process is waiting; each such look stands for the time since the last.  The
 * sum is good to a hundredth of a second for each wait, enough to tell a batch
 * that was held up from one that was slow.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/proc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "lockwait.h"

#define LOOK_MS		10

static TimeoutId timer = MAX_TIMEOUTS;
static volatile sig_atomic_t looks = 0;

/*
 * In the signal handler of the timer.  A process that is terminated in the middle
 * of a statement has lost its entry before it has lost its timers.
 */
static void
look(void)
{
	if (MyProc != NULL && MyProc->waitLock != NULL)
		looks++;
}

/* Begin to count. */
void
lock_wait_begin(void)
{
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, look);
	looks = 0;
	enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_MS),
						 LOOK_MS);
}

/*
 * Stop counting.  Returns the time spent in waiting since lock_wait_begin, in
 * microseconds.  After an error the server has stopped the timer.
 */
int64
lock_wait_end(void)
{
	disable_timeout(timer, false);
	return (int64) looks * LOOK_MS * 1000;
}
