/*-------------------------------------------------------------------------
 *
 * outside.c
 *	  What calls of clients come to when their transaction ends.
 *
 * Leases, reserved rows and the stock stand in shared memory, which no rollback undoes.
 * So each call notes what it has done, and what that comes to happens when its
 * transaction commits or is rolled back, savepoints included.
 *
 * A transaction in which a batch was refused cannot commit, even if the error is
 * caught: the changes that go with the batch would stand without it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "api/outside.h"
#include "shared/lease.h"
#include "shared/metrics.h"
#include "shared/segment.h"
#include "shared/stock.h"
#include "shared/wake.h"

typedef enum EffectKind
{
	EFFECT_TAKE,				/* of a batch that is being claimed */
	EFFECT_CLAIM,
	EFFECT_COMPLETE,
	EFFECT_FAIL,
	EFFECT_DONE					/* with the last row of a batch that is nobody's any more */
} EffectKind;

/* What a call has done in the current transaction. */
typedef struct Effect
{
	EffectKind	kind;
	SubTransactionId subid;
	LeaseKey	key;
	int64		token;
	StockTaken	taken;			/* to be claimed, or of a claim */
	OutsideBatch batch;			/* if it is completed; else zeros */
	LedgerDone	done;			/* if it is done */
} Effect;

static List *effects = NIL;		/* in the context of the transaction */
static bool is_refused = false; /* a batch was refused in it */
static uint64 wal_seen = 0;		/* WAL of the session when it last claimed or completed */

/* ---- the end of a transaction ---- */

/* Committed. */
static void
confirm(const Effect *effect)
{
	Oid			database = effect->key.database;
	int64		run_id = effect->key.run_id;
	const OutsideBatch *batch = &effect->batch;
	Lease		removed;
	bool		known;

	if (effect->kind == EFFECT_CLAIM)
	{
		lease_commit(&effect->key, effect->token);
		return;
	}
	if (effect->kind == EFFECT_DONE)
	{
		const LedgerDone *done = &effect->done;

		metrics_count_batch(done->owner, NameStr(done->name), done->rows, done->wal_bytes,
							done->duration);
		return;
	}

	/*
	 * One that nobody knows of since a restart has nothing reserved.  With what a client has
	 * failed counts as used, since some of it may be done; what is not known here, is read
	 * from the row.
	 */
	removed.rows = 0;
	known = lease_remove(&effect->key, effect->token, &removed);
	stock_settle(database, run_id, known, removed.rows, batch->rows_scanned,
				 effect->kind == EFFECT_FAIL ? removed.rows : batch->rows_affected,
				 batch->wal_bytes, effect->kind == EFFECT_COMPLETE);
	if (batch->is_hooked)
		stock_tell(database, run_id);
	if (effect->kind == EFFECT_COMPLETE && batch->rows_done >= 0)
		metrics_count_batch(batch->owner, NameStr(batch->name), batch->rows_done,
							batch->wal_bytes, batch->duration);
}

/* Rolled back. */
static void
take_back(const Effect *effect)
{
	Lease		removed;

	if (effect->kind == EFFECT_TAKE ||
		(effect->kind == EFFECT_CLAIM && lease_remove(&effect->key, effect->token, &removed)))
		stock_put_back(effect->key.database, effect->key.run_id, &effect->taken);
}

/* Before the commit, when an error is still possible. */
static void
check_commit(bool prepare)
{
	if (is_refused)
		ereport(ERROR,
				(errcode(ERRCODE_LEASE_LOST),
				 errmsg("cannot commit a transaction in which a batch was refused"),
				 errdetail("Its changes may be about a batch that is somebody else's."),
				 errhint("Roll it back.")));
	if (prepare && effects != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot prepare a transaction that has claimed or completed a batch of a backfill")));
}

static void
transaction_ends(XactEvent event, void *arg)
{
	ListCell   *lc;
	List	   *ended = effects;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			check_commit(event == XACT_EVENT_PRE_PREPARE);
			return;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			break;
		default:
			return;
	}
	effects = NIL;
	is_refused = false;
	foreach(lc, ended)
	{
		if (event == XACT_EVENT_COMMIT)
			confirm(lfirst(lc));
		else
			take_back(lfirst(lc));
	}
}

static void
subtransaction_ends(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(lc, effects)
	{
		Effect	   *effect = lfirst(lc);

		if (effect->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
		{
			effect->subid = parent;
			continue;
		}
		effects = foreach_delete_current(effects, lc);
		take_back(effect);
	}
}

/* Once in a session: be told of the ends of transactions. */
static void
listen(void)
{
	static bool listening = false;

	if (listening)
		return;
	RegisterXactCallback(transaction_ends, NULL);
	RegisterSubXactCallback(subtransaction_ends, NULL);
	listening = true;
}

/* ---- what is noted ---- */

static Effect *
note(EffectKind kind, const LeaseKey *key, int64 token)
{
	MemoryContext old;
	Effect	   *effect;

	listen();
	old = MemoryContextSwitchTo(TopTransactionContext);
	effect = palloc0(sizeof(Effect));
	effect->kind = kind;
	effect->subid = GetCurrentSubTransactionId();
	effect->key = *key;
	effect->token = token;
	effects = lappend(effects, effect);
	MemoryContextSwitchTo(old);
	return effect;
}

/*
 * The batch has been taken from the stock: it is put back if anything goes wrong, be it that
 * the session is terminated, which no PG_CATCH would see.
 */
void
outside_taken(const LeaseKey *key, const StockTaken *taken)
{
	note(EFFECT_TAKE, key, 0)->taken = *taken;
}

/*
 * The batch that was taken last has a lease, which is entered: it is the client's if the
 * transaction commits.
 */
void
outside_claimed(int64 token)
{
	Effect	   *effect = llast(effects);

	Assert(effect->kind == EFFECT_TAKE);
	effect->kind = EFFECT_CLAIM;
	effect->token = token;
}

/* The batch that was taken last is not to be had; the caller has said so to the stock. */
void
outside_dropped(void)
{
	Assert(((Effect *) llast(effects))->kind == EFFECT_TAKE);
	effects = list_delete_last(effects);
}

/* The batch is completed, if the transaction commits. */
void
outside_completed(const LeaseKey *key, int64 token, const OutsideBatch *batch)
{
	note(EFFECT_COMPLETE, key, token)->batch = *batch;
}

/* The client has failed with the batch. */
void
outside_failed(const LeaseKey *key, int64 token)
{
	note(EFFECT_FAIL, key, token);
}

/*
 * All rows of a batch of the run are done, of which the ledger is all that there is: it is
 * counted, if the transaction commits.  NULL for none.
 */
void
outside_done(int64 run_id, const LedgerDone *done)
{
	LeaseKey	key = lease_key(run_id, 0, 0);

	if (done && segment_available())
		note(EFFECT_DONE, &key, 0)->done = *done;
}

/*
 * The batch is not the caller's: an error, and the transaction cannot commit.  We have to hear
 * of the commit before those who then commit elsewhere, as postgres_fdw does: who has
 * registered last is told first.
 */
compat_noreturn void
outside_refuse(const LeaseKey *key, const char *detail, const char *hint)
{
	listen();
	UnregisterXactCallback(transaction_ends, NULL);
	RegisterXactCallback(transaction_ends, NULL);
	is_refused = true;
	ereport(ERROR,
			(errcode(ERRCODE_LEASE_LOST),
			 key->number == 0 ?
			 errmsg("rows of backfill run " INT64_FORMAT " are not yours", key->run_id) :
			 errmsg("batch " INT64_FORMAT " of backfill run " INT64_FORMAT " is not yours, or not any more",
					key->number, key->run_id),
			 errdetail("%s", detail),
			 errhint("%s", hint ? hint : "Roll back, and claim again: whoever has the batch now does it.")));
}

/* Whether the claim with that token was made in this transaction. */
bool
outside_claims(int64 token)
{
	ListCell   *lc;

	foreach(lc, effects)
	{
		const Effect *effect = lfirst(lc);

		if (effect->kind == EFFECT_CLAIM && effect->token == token)
			return true;
	}
	return false;
}

/* WAL that the session has written since it was last asked. */
int64
outside_wal(void)
{
	int64		written = (int64) (pgWalUsage.wal_bytes - wal_seen);

	wal_seen = pgWalUsage.wal_bytes;
	return written;
}

/* ---- the end of the session ---- */

static void
session_ends(int code, Datum arg)
{
	lease_end_session();
	wake_scheduler(MyDatabaseId);
}

/* The session has a lease that lasts as long as itself. */
void
outside_watch_session(void)
{
	static bool watching = false;

	if (watching)
		return;
	before_shmem_exit(session_ends, (Datum) 0);
	watching = true;
}
