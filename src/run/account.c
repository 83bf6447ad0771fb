/*-------------------------------------------------------------------------
 *
 * account.c
 *	  What a run has done and used up so far, put down in its row.
 *
 * Now and then, and when a run ends or rests: what batches have done is added up from
 * their rows, what workers have done with their time from shared memory.  If the
 * transaction is rolled back the latter is lost, as it is when the server crashes: it is
 * an account of some seconds, and nothing depends on it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "run/account.h"
#include "shared/run_slot.h"
#include "shared/worker_slot.h"
#include "store/pace.h"
#include "store/stream.h"

/* Within a store session. */
void
account_roll_up(StoreSession *session, const RunInfo *run)
{
	int64		times[WORKER_STATES];
	const char *names[WORKER_STATES];
	double		seconds[WORKER_STATES];
	int			n = 0;

	stream_rollup_run(session, run);
	if (!run_slot_take_times(MyDatabaseId, run->id, times))
		return;
	for (int i = 0; i < WORKER_STATES; i++)
	{
		if (times[i] == 0)
			continue;
		names[n] = worker_slot_state_name((WorkerState) i);
		seconds[n++] = times[i] / 1000000.0;
	}
	store_add_times(session, run->id, names, seconds, n);
}
