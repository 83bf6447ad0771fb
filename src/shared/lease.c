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
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "settings/guc.h"
#include "shared/lease.h"

/* The lock of the table; taken after that of the segment, if both are. */
typedef struct LeaseHead
{
	LWLock	   *lock;
	int64		n;				/* entries */
} LeaseHead;

#define TRANCHE "backfill leases"

static LeaseHead *head = NULL;
static HTAB *leases = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* ---- the table ---- */

static void
request_hook(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(add_size(MAXALIGN(sizeof(LeaseHead)),
									hash_estimate_size(guc_max_leases, sizeof(Lease))));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
startup_hook(void)
{
	HASHCTL		info = {.keysize = sizeof(LeaseKey), .entrysize = sizeof(Lease)};
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	head = ShmemInitStruct("backfill lease head", sizeof(LeaseHead), &found);
	if (!found)
	{
		head->lock = &(GetNamedLWLockTranche(TRANCHE))->lock;
		head->n = 0;
	}
	leases = compat_shmem_hash(TRANCHE, guc_max_leases, &info,
							   HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	LWLockRelease(AddinShmemInitLock);
}

/* At preload: ask for the memory. */
void
lease_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_hook;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_hook;
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

/*
 * Enter a lease.  Another one of the batch, which is over, but not taken out so far, goes to
 * *replaced, for the caller to settle; its token is 0 if there is none.  If replaced is NULL,
 * nothing is entered in the place of another.  Returns false if that is so, or the table full.
 */
bool
lease_enter(const Lease *lease, Lease *replaced)
{
	Lease	   *entry;
	bool		found;

	if (replaced)
		replaced->token = 0;
	LWLockAcquire(head->lock, LW_EXCLUSIVE);
	entry = hash_search(leases, &lease->key, HASH_FIND, NULL);
	found = entry != NULL;
	if (found && replaced)
		*replaced = *entry;
	else if (found)
		entry = NULL;
	else if (head->n < guc_max_leases)
		entry = hash_search(leases, &lease->key, HASH_ENTER_NULL, NULL);
	if (entry)
	{
		if (!found)
			head->n++;
		*entry = *lease;
	}
	LWLockRelease(head->lock);
	return entry != NULL;
}

/* The claim is committed: from now on it is seen, and can be taken back. */
void
lease_commit(const LeaseKey *key, int64 token)
{
	Lease	   *lease;

	LWLockAcquire(head->lock, LW_EXCLUSIVE);
	lease = find(key, token);
	if (lease)
		lease->committed = true;
	LWLockRelease(head->lock);
}

/* The lease is over; what it was goes to *removed.  Returns false if it was not there. */
bool
lease_remove(const LeaseKey *key, int64 token, Lease *removed)
{
	Lease	   *lease;

	LWLockAcquire(head->lock, LW_EXCLUSIVE);
	lease = find(key, token);
	if (lease)
	{
		*removed = *lease;
		(void) hash_search(leases, key, HASH_REMOVE, NULL);
		head->n--;
	}
	LWLockRelease(head->lock);
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

	LWLockAcquire(head->lock, LW_SHARED);
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
	LWLockRelease(head->lock);
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

	LWLockAcquire(head->lock, LW_EXCLUSIVE);
	lease = find(key, token);
	good = lease && lease->until > now;
	if (good)
	{
		lease->length = length;
		lease->until = *until = TimestampTzPlusMilliseconds(now, length);
	}
	LWLockRelease(head->lock);
	return good;
}

/* Whether a transaction has claimed the batch that has not ended so far. */
bool
lease_is_open(const LeaseKey *key)
{
	Lease	   *lease;
	bool		open;

	LWLockAcquire(head->lock, LW_SHARED);
	lease = hash_search(leases, key, HASH_FIND, NULL);
	open = lease && !lease->committed;
	LWLockRelease(head->lock);
	return open;
}

/* ---- all of them ---- */

/* Whether the lease is one of the run. */
static bool
is_of_run(const Lease *lease, Oid database, int64 run_id)
{
	return lease->key.database == database && lease->key.run_id == run_id;
}

/* Whether the lease, of the run, has run out, or is to be taken back as all are. */
static bool
is_lapsed(const Lease *lease, int64 run_id, bool all, TimestampTz now)
{
	return is_of_run(lease, MyDatabaseId, run_id) && lease->committed &&
		(all || lease->until <= now);
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

	/* mostly there is none; not more than there are now: what does not fit is for the next round */
	LWLockAcquire(head->lock, LW_SHARED);
	if (head->n > 0)
	{
		hash_seq_init(&status, leases);
		while ((lease = hash_seq_search(&status)) != NULL)
			room += is_lapsed(lease, run_id, all, now) ? 1 : 0;
	}
	LWLockRelease(head->lock);
	if (room == 0)
		return NIL;
	copies = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Lease) * room);
	LWLockAcquire(head->lock, LW_EXCLUSIVE);
	hash_seq_init(&status, leases);
	while ((lease = hash_seq_search(&status)) != NULL)
	{
		if (n == room)
		{
			hash_seq_term(&status);
			break;
		}
		if (!is_lapsed(lease, run_id, all, now))
			continue;
		lease->until = Min(lease->until, now);
		copies[n++] = *lease;
	}
	LWLockRelease(head->lock);
	for (int i = 0; i < n; i++)
		result = lappend(result, &copies[i]);
	return result;
}

/*
 * How many leases of the run there are, or, if that is 0, of all runs of the database, and how
 * many rows they reserve.  On demand they are forgotten; otherwise a shared lock is enough.
 */
static void
add_up(Oid database, int64 run_id, bool forget, int64 *n, int64 *rows)
{
	HASH_SEQ_STATUS status;
	Lease	   *lease;

	*n = *rows = 0;
	LWLockAcquire(head->lock, forget ? LW_EXCLUSIVE : LW_SHARED);
	if (head->n > 0)
	{
		hash_seq_init(&status, leases);
		while ((lease = hash_seq_search(&status)) != NULL)
		{
			if (!is_of_run(lease, database, run_id == 0 ? lease->key.run_id : run_id))
				continue;
			(*n)++;
			*rows += lease->rows;
			if (!forget)
				continue;
			(void) hash_search(leases, &lease->key, HASH_REMOVE, NULL);
			head->n--;
		}
	}
	LWLockRelease(head->lock);
}

/* How many leases of the run there are, and how many rows they reserve. */
void
lease_count(Oid database, int64 run_id, int64 *n, int64 *rows)
{
	add_up(database, run_id, false, n, rows);
}

/*
 * Forget the leases of the run, or, if that is 0, of all runs of the database.  *n is how many
 * those were, and *rows how many rows they reserved.
 */
void
lease_forget(Oid database, int64 run_id, int64 *n, int64 *rows)
{
	add_up(database, run_id, true, n, rows);
}

/* This session ends, and with it the leases that were to last as long. */
void
lease_end_session(void)
{
	HASH_SEQ_STATUS status;
	Lease	   *lease;

	LWLockAcquire(head->lock, LW_EXCLUSIVE);
	hash_seq_init(&status, leases);
	while ((lease = hash_seq_search(&status)) != NULL)
	{
		if (lease->pid == MyProcPid && lease->length == 0)
			lease->until = 0;
	}
	LWLockRelease(head->lock);
}

/* Copies of the leases in the database; returns their number. */
int
lease_copy(Oid database, Lease **copies)
{
	HASH_SEQ_STATUS status;
	Lease	   *lease;
	int			n = 0;
	int			room;

	LWLockAcquire(head->lock, LW_SHARED);
	room = (int) head->n;
	LWLockRelease(head->lock);
	*copies = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Lease) * Max(room, 1));
	LWLockAcquire(head->lock, LW_SHARED);
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
	LWLockRelease(head->lock);
	return n;
}
