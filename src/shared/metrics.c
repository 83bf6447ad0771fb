/*-------------------------------------------------------------------------
 *
 * metrics.c
 *	  What is counted for monitoring, by definition.
 *
 * A hash table of fixed size, under a lock of its own: for each definition that runs
 * have been at work for, the batches that were committed, with what they took, and the
 * time for which its runs were throttled, by what.  A batch costs one look-up and a few
 * additions, whatever there was before it.
 *
 * Counters only grow.  They are those of a definition, not of its runs, so that to
 * delete a run does not take them down; they start at zero with the server.
 *
 * What is counted is committed: who calls has committed it, or does so in a callback of
 * the commit.  A process that is killed in between leaves its batch uncounted.
 *
 * There are as many places as "backfill.max_metrics" says.  When they are all taken, a new
 * definition gets the place of the one for which nothing was counted for longest, if that is
 * more than a day; its series end with that, and would begin at zero.  Otherwise its
 * batches are only counted together with others that have no place.
 *
 * Workers, the scheduler and sessions of clients count; the view backfill_metrics reads.
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
#include "shared/metrics.h"

/* A definition for which nothing was counted for so long may lose its place. */
#define AT_REST			(1 * USECS_PER_DAY)

/* The lock protects all of it, and the table. */
typedef struct MetricsHead
{
	LWLock	   *lock;
	int64		n;				/* entries */
	int64		uncounted;		/* batches of definitions without a place */
	bool		said;			/* the log says that there is none */
} MetricsHead;

#define TRANCHE "backfill metrics"

static MetricsHead *head = NULL;
static HTAB *table = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* The upper bounds of the buckets, in microseconds and as they are shown, in seconds. */
static const struct
{
	int64		most;
	const char *text;
}			bounds[METRICS_BUCKETS] = {
	{1000, "0.001"},
	{2500, "0.0025"},
	{5000, "0.005"},
	{10000, "0.01"},
	{25000, "0.025"},
	{50000, "0.05"},
	{100000, "0.1"},
	{250000, "0.25"},
	{500000, "0.5"},
	{1000000, "1"},
	{2500000, "2.5"},
	{5000000, "5"},
	{10000000, "10"},
	{30000000, "30"},
	{60000000, "60"},
	{300000000, "300"}
};

/* What may throttle a run; anything else is the last one. */
static const char *const reasons[METRICS_REASONS] = {
	"window",
	"probe",
	"max_replica_lag",
	"max_replica_lag_bytes",
	"max_slot_retained",
	"max_archive_backlog",
	"max_active_sessions",
	"max_xmin_age",
	"max_dead_rows",
	"pause_for_maintenance",
	"max_growth",
	"rate_limit",
	"wal_rate_limit",
	"backfill.rate_limit",
	"backfill.wal_rate_limit",
	"foreground",
	"batch cost",
	"other"
};

/* ---- the table ---- */

static void
request_hook(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(add_size(MAXALIGN(sizeof(MetricsHead)),
									hash_estimate_size(guc_max_metrics, sizeof(Metrics))));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
startup_hook(void)
{
	HASHCTL		info = {.keysize = sizeof(MetricsKey), .entrysize = sizeof(Metrics)};
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	head = ShmemInitStruct("backfill metrics head", sizeof(MetricsHead), &found);
	if (!found)
	{
		memset(head, 0, sizeof(MetricsHead));
		head->lock = &(GetNamedLWLockTranche(TRANCHE))->lock;
	}
	table = compat_shmem_hash(TRANCHE, guc_max_metrics, &info,
							  HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	LWLockRelease(AddinShmemInitLock);
}

/* At preload: ask for the memory. */
void
metrics_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_hook;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_hook;
}

/* ---- one definition ---- */

/*
 * Free the place of the definition for which nothing was counted for longest, if that is
 * long enough.  The caller holds the lock.
 */
static void
make_room(TimestampTz now)
{
	HASH_SEQ_STATUS status;
	Metrics    *entry;
	MetricsKey	oldest;
	TimestampTz used_at = now - AT_REST;
	bool		found = false;

	hash_seq_init(&status, table);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->used_at >= used_at)
			continue;
		used_at = entry->used_at;
		oldest = entry->key;
		found = true;
	}
	if (!found)
		return;
	(void) hash_search(table, &oldest, HASH_REMOVE, NULL);
	head->n--;
}

/*
 * The counters of the definition in this database, at zero if it had none; NULL if there
 * is no place for it.  The caller holds the lock.
 */
static Metrics *
get(Oid owner, const char *name)
{
	TimestampTz now = GetCurrentTimestamp();
	MetricsKey	key = {.database = MyDatabaseId, .owner = owner};
	Metrics    *entry;

	/* all of the key is hashed */
	strlcpy(key.name, name, NAMEDATALEN);
	entry = hash_search(table, &key, HASH_FIND, NULL);
	if (entry == NULL)
	{
		if (head->n >= guc_max_metrics)
			make_room(now);
		if (head->n < guc_max_metrics)
			entry = hash_search(table, &key, HASH_ENTER_NULL, NULL);
		if (entry == NULL)
			return NULL;
		memset(entry, 0, sizeof(Metrics));
		entry->key = key;
		head->n++;
	}
	entry->used_at = now;
	return entry;
}

/*
 * A run of the definition is looked after: its counters are there from now on, at zero, so
 * that the first batch is seen to come.  That there is no place for them is logged, once.
 */
void
metrics_open(Oid owner, const char *name)
{
	bool		is_news = false;

	LWLockAcquire(head->lock, LW_EXCLUSIVE);
	if (get(owner, name) == NULL)
	{
		is_news = !head->said;
		head->said = true;
	}
	LWLockRelease(head->lock);
	if (is_news)
		ereport(LOG,
				(errmsg("backfill has no place to count batches of definition \"%s\" for monitoring", name),
				 errhint("You might need to increase \"%s\".", "backfill.max_metrics")));
}

/*
 * A batch of a run of the definition is committed, which has processed so many rows,
 * written so many bytes of WAL, and taken so many microseconds, or below 0 if nobody knows,
 * as when the clock was set back.  Raises nothing: the transaction is over.
 */
void
metrics_count_batch(Oid owner, const char *name, int64 rows, int64 wal_bytes, int64 duration)
{
	Metrics    *entry;
	int			bucket = 0;

	while (bucket < METRICS_BUCKETS && duration > bounds[bucket].most)
		bucket++;
	LWLockAcquire(head->lock, LW_EXCLUSIVE);
	entry = get(owner, name);
	if (entry)
	{
		entry->rows += rows;
		entry->batches++;
		entry->wal_bytes += wal_bytes;
		if (duration >= 0)
		{
			entry->timed++;
			entry->duration += duration;
			if (bucket < METRICS_BUCKETS)
				entry->buckets[bucket]++;
		}
	}
	else
		head->uncounted++;
	LWLockRelease(head->lock);
}

/*
 * A run of the definition was throttled for so many microseconds, by what the text says, which
 * is the first word of its "throttled_by".
 */
void
metrics_count_throttled(Oid owner, const char *name, const char *reason, int64 duration)
{
	Metrics    *entry;
	int			i = 0;

	while (i < METRICS_REASONS - 1 && strcmp(reasons[i], reason) != 0)
		i++;
	LWLockAcquire(head->lock, LW_EXCLUSIVE);
	entry = get(owner, name);
	if (entry)
		entry->throttled[i] += Max(duration, 0);
	LWLockRelease(head->lock);
}

/* ---- all of them ---- */

/*
 * Copies of the counters of the database, in the current memory context; returns their
 * number.  *uncounted is how many batches, in all databases, found no place.
 */
int
metrics_copy(Oid database, Metrics **copies, int64 *uncounted)
{
	HASH_SEQ_STATUS status;
	Metrics    *entry;
	int			n = 0;

	*copies = palloc(sizeof(Metrics) * guc_max_metrics);
	LWLockAcquire(head->lock, LW_SHARED);
	*uncounted = head->uncounted;
	hash_seq_init(&status, table);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->key.database == database)
			(*copies)[n++] = *entry;
	}
	LWLockRelease(head->lock);
	return n;
}

/* The upper bound of the bucket, in seconds. */
const char *
metrics_bound(int bucket)
{
	return bounds[bucket].text;
}

/* What throttles a run, from the list of what may. */
const char *
metrics_reason(int reason)
{
	return reasons[reason];
}
