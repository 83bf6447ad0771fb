/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  The leases of clients: until when a batch is theirs.
 *
 * A hash table of fixed size, under a lock of its own.  The row of a batch says whose
 * it is; here stands until when, so that to extend a lease writes no row and no WAL.
 * After a crash the table starts empty, and the scheduler enters what the rows say,
 * each lease at its full length once more.
 *
 * An entry is made before the claim commits, and taken out when it does not; who
 * takes one out has to know its token, since meanwhile the batch may be another's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "settings/guc.h"
#include "shared/lease.h"
#include "shared/segment.h"

static HTAB *leases = NULL;

/* ---- the table ---- */

Size
lease_table_size(void)
{
	return hash_estimate_size(guc_max_leases, sizeof(Lease));
}

/* At the start of the server, and of each process that attaches by itself. */
void
lease_table_make(void)
{
	HASHCTL		info = {.keysize = sizeof(LeaseKey), .entrysize = sizeof(Lease)};

	leases = ShmemInitHash("backfill leases", guc_max_leases, guc_max_leases, &info,
						   HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

/* The batch of a run of this database. */
LeaseKey
lease_key(int64 run_id, int64 number, int part)
{
	return (LeaseKey) {run_id, number, MyDatabaseId, part};
}

/* ---- one lease ---- */

/* The lease with that token, or NULL.  The caller holds the lock. */
static Lease *
find(const LeaseKey *key, int64 token)
{
	Lease	   *lease = hash_search(leases, key, HASH_FIND, NULL);

	return lease && lease->token == token ? lease : NULL;
}

/* Enter a lease, in the place of any other of the batch.  Returns false if the table is full. */
bool
lease_enter(const Lease *lease)
{
	Lease	   *entry = NULL;
	bool		found;

	LWLockAcquire(segment->lease_lock, LW_EXCLUSIVE);
	if (segment->nleases < guc_max_leases || hash_search(leases, &lease->key, HASH_FIND, NULL))
		entry = hash_search(leases, &lease->key, HASH_ENTER_NULL, &found);
	if (entry)
	{
		if (!found)
			segment->nleases++;
		*entry = *lease;
	}
	LWLockRelease(segment->lease_lock);
	return entry != NULL;
}

/* The claim is committed: the lease begins now. */
void
lease_commit(const LeaseKey *key, int64 token)
{
	Lease	   *lease;

	LWLockAcquire(segment->lease_lock, LW_EXCLUSIVE);
	lease = find(key, token);
	if (lease)
		lease->committed = true;
	LWLockRelease(segment->lease_lock);
}

/* The lease is over; what it was goes to *removed.  Returns false if it was not there. */
bool
lease_remove(const LeaseKey *key, int64 token, Lease *removed)
{
	Lease	   *lease;

	LWLockAcquire(segment->lease_lock, LW_EXCLUSIVE);
	lease = find(key, token);
	if (lease)
	{
		*removed = *lease;
		(void) hash_search(leases, key, HASH_REMOVE, NULL);
		segment->nleases--;
	}
	LWLockRelease(segment->lease_lock);
	return lease != NULL;
}

/*
 * How it stands with the lease, for the role and what it shows; what is known of it goes
 * to *copy.
 */
LeaseState
lease_check(const LeaseKey *key, int64 token, const pg_uuid_t *secret, Oid role, Lease *copy)
{
	LeaseState	state = LEASE_GOOD;
	Lease	   *lease;

	LWLockAcquire(segment->lease_lock, LW_SHARED);
	lease = hash_search(leases, key, HASH_FIND, NULL);
	if (lease == NULL)
		state = LEASE_UNKNOWN;
	else if (lease->token != token || lease->role != role ||
			 memcmp(&lease->secret, secret, sizeof(pg_uuid_t)) != 0)
		state = LEASE_OTHER;
	else if (lease->until <= GetCurrentTimestamp())
		state = LEASE_OVER;
	if (lease)
		*copy = *lease;
	LWLockRelease(segment->lease_lock);
	return state;
}

/*
 * The lease, which is good, is good for so many milliseconds from now on.  Returns false
 * if it is not there, or has run out a moment ago.
 */
bool
lease_extend(const LeaseKey *key, int64 token, int64 length, TimestampTz *until)
{
	TimestampTz now = GetCurrentTimestamp();
	Lease	   *lease;
	bool		good;

	LWLockAcquire(segment->lease_lock, LW_EXCLUSIVE);
	lease = find(key, token);
	good = lease && lease->until > now;
	if (good)
	{
		lease->length = length;
		lease->until = *until = TimestampTzPlusMilliseconds(now, length);
	}
	LWLockRelease(segment->lease_lock);
	return good;
}

/* Whether there is a lease of the batch. */
bool
lease_is_known(const LeaseKey *key)
{
	bool		known;

	LWLockAcquire(segment->lease_lock, LW_SHARED);
	known = hash_search(leases, key, HASH_FIND, NULL) != NULL;
	LWLockRelease(segment->lease_lock);
	return known;
}

/* ---- all of them ---- */

/* Whether the lease is one of the run. */
static bool
is_of_run(const Lease *lease, Oid database, int64 run_id)
{
	return lease->key.database == database && lease->key.run_id == run_id;
}

/*
 * Copies of the run's leases that have run out, or of all; claims that are not
 * committed yet are left alone.  From then on none of them is good any more.
 */
List *
lease_lapsed(int64 run_id, bool all)
{
	TimestampTz now = GetCurrentTimestamp();
	Lease	   *copies = NULL;
	int			n = 0;
	int			room = 0;
	List	   *result = NIL;
	HASH_SEQ_STATUS status;
	Lease	   *lease;

	/* not more than there are now; what does not fit is for the next round */
	LWLockAcquire(segment->lease_lock, LW_SHARED);
	room = (int) segment->nleases;
	LWLockRelease(segment->lease_lock);
	if (room == 0)
		return NIL;
	copies = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Lease) * room);
	LWLockAcquire(segment->lease_lock, LW_EXCLUSIVE);
	hash_seq_init(&status, leases);
	while ((lease = hash_seq_search(&status)) != NULL)
	{
		if (n == room)
		{
			hash_seq_term(&status);
			break;
		}
		if (!is_of_run(lease, MyDatabaseId, run_id) || !lease->committed ||
			(!all && lease->until > now))
			continue;
		lease->until = Min(lease->until, now);
		copies[n++] = *lease;
	}
	LWLockRelease(segment->lease_lock);
	for (int i = 0; i < n; i++)
		result = lappend(result, &copies[i]);
	return result;
}

/* How many leases of the run there are, and how many rows they reserve. */
void
lease_count(Oid database, int64 run_id, int64 *n, int64 *rows)
{
	HASH_SEQ_STATUS status;
	Lease	   *lease;

	*n = *rows = 0;
	LWLockAcquire(segment->lease_lock, LW_SHARED);
	if (segment->nleases > 0)
	{
		hash_seq_init(&status, leases);
		while ((lease = hash_seq_search(&status)) != NULL)
		{
			if (!is_of_run(lease, database, run_id))
				continue;
			(*n)++;
			*rows += lease->rows;
		}
	}
	LWLockRelease(segment->lease_lock);
}

/* This session ends, and with it the leases that were to last as long. */
void
lease_end_session(void)
{
	HASH_SEQ_STATUS status;
	Lease	   *lease;

	LWLockAcquire(segment->lease_lock, LW_EXCLUSIVE);
	hash_seq_init(&status, leases);
	while ((lease = hash_seq_search(&status)) != NULL)
	{
		if (lease->pid == MyProcPid && lease->length == 0)
			lease->until = 0;
	}
	LWLockRelease(segment->lease_lock);
}

/* Copies of the leases in the database; returns their number. */
int
lease_copy(Oid database, Lease **copies)
{
	HASH_SEQ_STATUS status;
	Lease	   *lease;
	int			n = 0;
	int			room;

	LWLockAcquire(segment->lease_lock, LW_SHARED);
	room = (int) segment->nleases;
	LWLockRelease(segment->lease_lock);
	*copies = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Lease) * Max(room, 1));
	LWLockAcquire(segment->lease_lock, LW_SHARED);
	hash_seq_init(&status, leases);
	while ((lease = hash_seq_search(&status)) != NULL)
	{
		if (n == room)
		{
			hash_seq_term(&status);
			break;
		}
		if (lease->key.database == database && lease->committed)
			(*copies)[n++] = *lease;
	}
	LWLockRelease(segment->lease_lock);
	return n;
}
