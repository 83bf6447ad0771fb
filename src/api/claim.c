/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  The SQL functions by which clients claim batches.
 *
 * A claim takes a batch from the stock of the run, puts it into the caller's hands in its
 * row, and enters its lease.  Nothing of the owner's runs here: ranges are cut by a worker
 * in the owner's session, and the condition is text.  Only backfill_claim_rows reads the
 * target, and so is for a session of the owner's.  Without shared memory there is no stock,
 * and no worker either: unloaded.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/ip.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "api/outside.h"
#include "api/pages.h"
#include "api/token.h"
#include "api/unloaded.h"
#include "base/compat.h"
#include "run/access.h"
#include "run/lapse.h"
#include "shared/lease.h"
#include "shared/segment.h"
#include "shared/stock.h"
#include "store/lease.h"
#include "store/ledger.h"
#include "store/status.h"
#include "store/store.h"
#include "walk/condition.h"
#include "walk/key.h"

PG_FUNCTION_INFO_V1(backfill_claim);
PG_FUNCTION_INFO_V1(backfill_claim_rows);

/* How many batches may be claimed by one call. */
#define CLAIM_MOST			1000
/* When to ask again, in milliseconds. */
#define ASK_LATER_MS		1000
#define ASK_SOON_MS			100
#define ASK_LEAST_MS		10
/* How long a claim waits for a stock that is empty for a moment. */
#define WAIT_MS				100

/* The columns of the result. */
enum
{
	CLAIM_NUMBER, CLAIM_PART, CLAIM_START_KEY, CLAIM_END_KEY, CLAIM_CONDITION, CLAIM_ROWS,
	CLAIM_TOKEN, CLAIM_LEASE_UNTIL, CLAIM_RETRY_AFTER, CLAIM_REASON, CLAIM_DONE, CLAIM_MORE,
	CLAIM_BATCH = CLAIM_MORE, CLAIM_STREAM = CLAIM_MORE, CLAIM_SOURCE_TOKEN, CLAIM_COLUMNS
};

/* One call. */
typedef struct Claim
{
	FunctionCallInfo fcinfo;
	int64		run_id;
	LeaseClaim	lease;
	int64		length;			/* milliseconds, or 0 for the time of the session */
	int			batches;
	bool		with_rows;
	LeaseRun   *run;
	List	   *keys;			/* ArrayType: rows of the batch, with a ledger */
	int			claimed;		/* batches by this call */
} Claim;

/* ---- arguments ---- */

static char *
worker_arg(FunctionCallInfo fcinfo)
{
	char	   *worker;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the name of the worker cannot be null"),
				 errhint("Give a name that tells it from others, such as host and process id.")));
	worker = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (worker[0] == '\0' || strlen(worker) >= LEASE_NAME_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of the worker must have between 1 and %d bytes", LEASE_NAME_SIZE - 1)));
	return worker;
}

/* The lease: an interval, or a text that is one, or "session", for which NULL is returned. */
static Interval *
lease_arg(FunctionCallInfo fcinfo)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 2);
	char	   *words;

	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the lease cannot be null")));
	if (type == INTERVALOID)
		return PG_GETARG_INTERVAL_P(2);
	words = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (pg_strcasecmp(words, "session") == 0)
		return NULL;
	return DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(words),
												 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static void
read_arguments(FunctionCallInfo fcinfo, Claim *claim)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the id of the run cannot be null")));
	claim->fcinfo = fcinfo;
	claim->run_id = PG_GETARG_INT64(0);
	claim->lease.client = worker_arg(fcinfo);
	claim->lease.role = GetUserId();
	claim->lease.length = lease_arg(fcinfo);
	claim->length = claim->lease.length ? lapse_milliseconds(claim->lease.length) : 0;
	claim->batches = PG_ARGISNULL(3) ? 1 : PG_GETARG_INT32(3);
	if (claim->batches < 1 || claim->batches > CLAIM_MOST)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of batches must be between 1 and %d", CLAIM_MOST)));
}

/* ---- results ---- */

static void
put(Claim *claim, Datum *values, bool *nulls)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) claim->fcinfo->resultinfo;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* A row without a batch: the run is over, or when to ask again. */
static void
answer_nothing(Claim *claim, bool done, int64 ms, const char *reason)
{
	Datum		values[CLAIM_COLUMNS] = {0};
	bool		nulls[CLAIM_COLUMNS];
	Interval   *after = palloc0(sizeof(Interval));

	memset(nulls, true, sizeof(nulls));
	if (!done)
	{
		after->time = Max(ms, ASK_LEAST_MS) * 1000;
		values[CLAIM_RETRY_AFTER] = IntervalPGetDatum(after);
		nulls[CLAIM_RETRY_AFTER] = false;
	}
	if (reason)
	{
		values[CLAIM_REASON] = CStringGetTextDatum(reason);
		nulls[CLAIM_REASON] = false;
	}
	values[CLAIM_DONE] = BoolGetDatum(done);
	nulls[CLAIM_DONE] = false;
	put(claim, values, nulls);
}

/* The rows of the batch, as an array of objects, in the order of the key. */
static Datum
read_rows(const Claim *claim, const char *condition)
{
	char	   *name = get_rel_name(claim->run->target);
	char	   *query;
	MemoryContext old = CurrentMemoryContext;
	Datum		rows;
	bool		isnull;

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the target of backfill run " INT64_FORMAT " does not exist any more",
						claim->run_id)));

	/* the row, also where a column has the name "batch" */
	query = psprintf("SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(batch.*) ORDER BY %s), '[]') FROM %s AS batch WHERE %s",
					 condition_order(claim->run->conditions),
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(claim->run->target)), name),
					 condition);
	SPI_connect();
	if (SPI_execute(query, false, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the rows of a batch");
	rows = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	MemoryContextSwitchTo(old);
	rows = PointerGetDatum(PG_DETOAST_DATUM_COPY(rows));
	SPI_finish();
	return rows;
}

/* A row for the batch; with a ledger, for the rows with those keys. */
static void
answer_batch(Claim *claim, const BatchInfo *batch, TimestampTz until)
{
	Datum		values[CLAIM_COLUMNS] = {0};
	bool		nulls[CLAIM_COLUMNS] = {false};
	char	   *condition = condition_fill(claim->run->conditions,
										   key_range_shape(batch->start_inclusive, batch->end_key),
										   batch->start_key, batch->end_key);

	if (claim->run->has_ledger)
		condition = condition_for_keys(claim->run->conditions, condition, claim->keys);
	values[CLAIM_NUMBER] = Int64GetDatum(batch->number);
	values[CLAIM_PART] = Int32GetDatum(batch->part);
	values[CLAIM_START_KEY] = PointerGetDatum(batch->start_key);
	values[CLAIM_END_KEY] = PointerGetDatum(batch->end_key);
	values[CLAIM_CONDITION] = CStringGetTextDatum(condition);
	values[CLAIM_ROWS] = Int64GetDatum(claim->run->has_ledger ? list_length(claim->keys) : batch->rows_in_scope);
	values[CLAIM_TOKEN] = CStringGetTextDatum(token_text(&claim->lease.token));
	values[CLAIM_LEASE_UNTIL] = TimestampTzGetDatum(until);
	nulls[CLAIM_LEASE_UNTIL] = claim->length == 0;
	nulls[CLAIM_RETRY_AFTER] = nulls[CLAIM_REASON] = true;
	values[CLAIM_DONE] = BoolGetDatum(false);
	if (claim->with_rows)
		values[CLAIM_BATCH] = read_rows(claim, condition);
	else
		nulls[CLAIM_STREAM] = nulls[CLAIM_SOURCE_TOKEN] = true;
	put(claim, values, nulls);
}

/* ---- claiming ---- */

/* Who it is, as pg_stat_activity has it. */
static void
describe_client(Lease *lease)
{
	char		host[NI_MAXHOST] = "";

	strlcpy(lease->application, application_name ? application_name : "", LEASE_NAME_SIZE);
	if (MyBEEntry && MyBEEntry->st_clientaddr.addr.ss_family != AF_UNIX)
		(void) pg_getnameinfo_all(&MyBEEntry->st_clientaddr.addr, MyBEEntry->st_clientaddr.salen,
								  host, sizeof(host), NULL, 0, NI_NUMERICHOST | NI_NUMERICSERV);
	strlcpy(lease->address, host, LEASE_NAME_SIZE);
}

/* Enter the lease of the batch that has been taken.  Returns false if there is no room for it. */
static bool
enter_lease(const Claim *claim, const BatchInfo *batch, const StockTaken *taken,
			TimestampTz *until)
{
	Lease		lease = {
		.key = lease_key(claim->run_id, batch->number, batch->part),
		.token = claim->lease.token.number,
		.secret = claim->lease.token.secret,
		.role = claim->lease.role,
		.rows = taken->reserved,
		.length = claim->length,
		.since = GetCurrentTimestamp(),
		.pid = MyProcPid
	};
	Lease		replaced;

	lease.until = claim->length == 0 ? DT_NOEND :
		TimestampTzPlusMilliseconds(lease.since, claim->length);
	*until = lease.until;
	strlcpy(lease.client, claim->lease.client, LEASE_NAME_SIZE);
	describe_client(&lease);
	if (!lease_enter(&lease, &replaced))
		return false;
	outside_claimed(lease.token);
	if (claim->length == 0)
		outside_watch_session();

	/* who was to take that one out will not find it any more; its rows may have been done */
	if (replaced.token != 0)
		stock_settle(MyDatabaseId, claim->run_id, true, replaced.rows, 0, replaced.rows, 0, true);
	return true;
}

/*
 * Take a batch from the stock.  If that is empty for a moment, wait a moment: to ask again
 * costs more, most of all those who are to fill it.
 */
static StockAnswer
take(const Claim *claim, StockTaken *taken, TimestampTz *retry_at)
{
	StockAnswer answer = stock_take(MyDatabaseId, claim->run_id, taken, retry_at);
	TimestampTz until;

	if (answer != STOCK_EMPTY || claim->claimed > 0)
		return answer;
	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WAIT_MS);
	stock_begin_wait();
	while (answer == STOCK_EMPTY)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		if (left <= 0)
			break;
		(void) stock_wait(left);
		answer = stock_take(MyDatabaseId, claim->run_id, taken, retry_at);
	}
	stock_end_wait();
	return answer;
}

/* How it went with a batch that was taken. */
typedef enum Outcome
{
	LEASED,
	NOT_THERE,					/* to be had any more */
	NO_ROOM						/* for its lease */
} Outcome;

/*
 * Put the batch into the caller's hands.  With a ledger it has the rows that nobody has had,
 * and is closed if there is none of them.  The lease is entered before those are put down:
 * without room for it nothing must be handed out.
 */
static Outcome
lease_batch(StoreSession *store, Claim *claim, const StockTaken *taken, BatchInfo **batch,
			TimestampTz *until)
{
	int64		number = taken->entry.number;
	int			part = taken->entry.part;
	LeaseKey	key = lease_key(claim->run_id, number, part);
	LedgerDone *done;

	*batch = store_lease_batch(store, claim->run_id, number, part, &claim->lease);
	if (*batch == NULL)
	{
		stock_drop(MyDatabaseId, claim->run_id, taken->reserved);
		outside_dropped();
		return NOT_THERE;
	}
	if (!enter_lease(claim, *batch, taken, until))
	{
		store_return_batch(store, claim->run_id, number, part, claim->lease.token.number);
		stock_put_back(MyDatabaseId, claim->run_id, taken);
		outside_dropped();
		return NO_ROOM;
	}
	if (!claim->run->has_ledger)
		return LEASED;
	claim->keys = ledger_claim(store, claim->run_id, number, part, claim->run->nkeys,
							   &claim->lease);

	/* before anything is done with the rows, it must be known for good who has them */
	ForceSyncCommit();
	if (claim->keys != NIL)
		return LEASED;
	done = ledger_close_batch(store, claim->run_id, number, part, "running");
	outside_failed(&key, claim->lease.token.number);
	if (done && done->rows > 0)
		outside_done(claim->run_id, done);
	return NOT_THERE;
}

/* Make the token one that nobody guesses; it is of no use to another role either. */
static void
make_secret(Claim *claim)
{
	if (!pg_strong_random(&claim->lease.token.secret, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a random number")));
}

/*
 * Claim one batch.  Returns NULL with what the stock has answered, or STOCK_TAKEN if there
 * is no room for its lease.
 */
static BatchInfo *
claim_one(Claim *claim, StockAnswer *answer, TimestampTz *until, TimestampTz *retry_at)
{
	StockTaken	taken;
	BatchInfo  *batch;
	StoreSession store;

	while ((*answer = take(claim, &taken, retry_at)) == STOCK_TAKEN)
	{
		LeaseKey	key = lease_key(claim->run_id, taken.entry.number, taken.entry.part);
		Outcome		outcome;

		outside_taken(&key, &taken);

		/*
		 * A worker that has looked into the table may have put down a batch that was
		 * claimed by then in a transaction which has not ended: not to wait for it, since
		 * it puts the batch back if it is rolled back.
		 */
		if (lease_is_open(&key))
		{
			stock_drop(MyDatabaseId, claim->run_id, taken.reserved);
			outside_dropped();
			continue;
		}

		make_secret(claim);
		store_begin(&store);
		outcome = lease_batch(&store, claim, &taken, &batch, until);
		store_end(&store);
		if (outcome == LEASED)
			return batch;
		if (outcome == NO_ROOM)
			break;
	}
	return NULL;
}

/* Why there is no batch. */
static const char *
refusal_reason(const Claim *claim, StockAnswer answer)
{
	switch (answer)
	{
		case STOCK_TAKEN:
			return "as many batches are out as \"backfill.max_leases\" allows";
		case STOCK_CLOSED:
			return claim->run->wait_reason ? claim->run->wait_reason :
				claim->run->throttled_by ? claim->run->throttled_by :
				"a worker of the run is to come and cut ranges";
		case STOCK_EMPTY:
			return "ranges are being cut";
		case STOCK_ENDED:
			return "nothing is pending, but others are at work";
		case STOCK_HELD:
			return claim->run->throttled_by ? claim->run->throttled_by : "the run is held";
		case STOCK_LIMITED:
			return claim->run->throttled_by ? claim->run->throttled_by : "rate limit";
		case STOCK_OUT:
			return "as many batches are out as the setting \"max_claims\" allows";
	}
	return NULL;
}

/* Claim batches of a run that is running. */
static void
claim_batches(Claim *claim)
{
	StockAnswer answer = STOCK_CLOSED;
	TimestampTz retry_at = 0;

	for (int i = 0; i < claim->batches; i++)
	{
		TimestampTz until;
		BatchInfo  *batch;

		CHECK_FOR_INTERRUPTS();
		batch = claim_one(claim, &answer, &until, &retry_at);
		if (batch)
		{
			answer_batch(claim, batch, until);
			claim->claimed++;
		}
		else if (i == 0)
			answer_nothing(claim, false,
						   answer == STOCK_TAKEN ||
						   (answer == STOCK_CLOSED && claim->run->throttled_by) ? ASK_LATER_MS :
						   TimestampDifferenceMilliseconds(GetCurrentTimestamp(), retry_at),
						   refusal_reason(claim, answer));
		if (batch == NULL)
			break;
	}
	(void) outside_wal();
}

/* Claim batches without shared memory: unloaded.c finds them, the row has the lease. */
static void
claim_unloaded(Claim *claim)
{
	Unloaded	turn;
	ListCell   *lc;

	if (claim->length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a lease cannot last as long as the session on a server without backfill in \"shared_preload_libraries\""),
				 errhint("Claim with the length of the lease, and extend it.")));
	unloaded_look(claim->run_id, claim->batches, claim->lease.client, &turn);
	claim->run->conditions = turn.run->conditions;
	claim->lease.in_row = true;
	foreach(lc, turn.batches)
	{
		const LeasedBatch *pending = lfirst(lc);
		StoreSession store;
		BatchInfo  *batch;

		make_secret(claim);
		store_begin(&store);
		batch = store_lease_batch(&store, claim->run_id, pending->number, pending->part, &claim->lease);
		store_end(&store);
		if (batch == NULL)
			continue;
		answer_batch(claim, batch, claim->lease.until);
		claim->claimed++;
	}
	if (claim->claimed == 0)
		answer_nothing(claim, turn.done, turn.ms, turn.reason);
	(void) outside_wal();
}

/* A row for a page that is to be fetched. */
static void
answer_page(Claim *claim, const PageWanted *wanted)
{
	Datum		values[CLAIM_COLUMNS] = {0};
	bool		nulls[CLAIM_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	values[CLAIM_NUMBER] = Int64GetDatum(wanted->number);
	values[CLAIM_PART] = Int32GetDatum(0);
	values[CLAIM_TOKEN] = CStringGetTextDatum(token_text(&claim->lease.token));
	values[CLAIM_LEASE_UNTIL] = TimestampTzGetDatum(claim->lease.until);
	values[CLAIM_DONE] = BoolGetDatum(false);
	nulls[CLAIM_NUMBER] = nulls[CLAIM_PART] = nulls[CLAIM_TOKEN] = nulls[CLAIM_LEASE_UNTIL] =
		nulls[CLAIM_DONE] = false;
	nulls[CLAIM_STREAM] = wanted->stream == NULL;
	if (wanted->stream)
		values[CLAIM_STREAM] = CStringGetTextDatum(wanted->stream);
	nulls[CLAIM_SOURCE_TOKEN] = wanted->token == NULL;
	values[CLAIM_SOURCE_TOKEN] = PointerGetDatum(wanted->token);
	put(claim, values, nulls);
}

/* Claim pages of a source that clients bring. */
static void
claim_pages(Claim *claim)
{
	PagesRefusal refusal;
	PageWanted	wanted;

	if (claim->with_rows)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("pages of a source have no rows yet"),
				 errhint("Claim them by backfill_claim.")));
	for (; claim->claimed < claim->batches; claim->claimed++)
	{
		make_secret(claim);
		if (!pages_claim(claim->run, &claim->lease, &wanted, &refusal))
			break;
		answer_page(claim, &wanted);
	}
	if (claim->claimed == 0)
		answer_nothing(claim, false, refusal.ms, refusal.reason);
}

/* A run that clients cannot work on says why. */
static void
check_run(const Claim *claim)
{
	const LeaseRun *run = claim->run;

	if (!run->is_outside)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill run " INT64_FORMAT " is not worked on by clients", run->id),
				 errdetail("It has a statement, and the setting \"outside\" is off."),
				 errhint("Give the setting {\"outside\": true} to backfill_define or backfill_start.")));
	if (!run->is_local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill run " INT64_FORMAT " belongs to another database", run->id),
				 errdetail("This database is a copy of it.")));
	if (claim->with_rows && (GetUserId() != run->owner || GetSessionUserId() != run->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to read the rows of backfill run " INT64_FORMAT, run->id),
				 errdetail("What the scope calls runs with the rights of the session's role, which has to be the owner of the run."),
				 errhint("Connect as role \"%s\", or use backfill_claim and read the rows by their condition.",
						 access_role_name(run->owner))));
	if (!segment_available() && (GetUserId() != run->owner || GetSessionUserId() != run->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to claim from backfill run " INT64_FORMAT, run->id),
				 errdetail("Without backfill in \"shared_preload_libraries\" a claim runs what the scope calls with the rights of the session's role, which has to be the owner of the run."),
				 errhint("Connect as role \"%s\".", access_role_name(run->owner))));
}

/* The run as it is, or an error. */
static LeaseRun *
load_run(int64 run_id)
{
	StoreSession store;
	LeaseRun   *run;

	store_begin(&store);
	run = store_lease_run(&store, run_id);
	store_end(&store);
	access_check_run(run_id, run ? run->owner : InvalidOid, GetUserId());
	return run;
}

/* Both functions. */
static Datum
do_claim(FunctionCallInfo fcinfo, bool with_rows)
{
	Claim		claim = {.with_rows = with_rows};

	InitMaterializedSRF(fcinfo, 0);
	PreventCommandDuringRecovery("backfill_claim()");
	PreventCommandIfReadOnly("backfill_claim()");
	read_arguments(fcinfo, &claim);
	claim.run = load_run(claim.run_id);
	check_run(&claim);
	if (!segment_available() && !claim.run->is_source)
		claim_unloaded(&claim);
	else if (status_has_ended(claim.run->status))
		answer_nothing(&claim, true, 0, claim.run->error ?
					   psprintf("%s: %s", status_name(claim.run->status), claim.run->error) :
					   status_name(claim.run->status));
	else if (claim.run->requested)
		answer_nothing(&claim, false, ASK_LATER_MS, psprintf("the run is to be %s%s%s", claim.run->requested,
																	claim.run->error ? ": " : "",
																	claim.run->error ? claim.run->error : ""));
	else if (claim.run->status != RUN_RUNNING)
		answer_nothing(&claim, false, claim.run->status == RUN_ENQUEUED ? ASK_SOON_MS : ASK_LATER_MS,
					   claim.run->wait_reason ?
					   psprintf("%s: %s", status_name(claim.run->status), claim.run->wait_reason) :
					   status_name(claim.run->status));
	else if (claim.run->is_source)
		claim_pages(&claim);
	else if (claim.run->conditions == NULL)
		answer_nothing(&claim, false, ASK_SOON_MS, claim.run->wait_reason ? claim.run->wait_reason : "the run begins");
	else
		claim_batches(&claim);
	return (Datum) 0;
}

/* backfill_claim(run_id, worker, lease, batches) */
Datum
backfill_claim(PG_FUNCTION_ARGS)
{
	return do_claim(fcinfo, false);
}

/* backfill_claim_rows(run_id, worker, lease, batches) */
Datum
backfill_claim_rows(PG_FUNCTION_ARGS)
{
	return do_claim(fcinfo, true);
}
