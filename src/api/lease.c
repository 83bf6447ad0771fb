/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  The SQL functions by which clients extend, complete and fail batches.
 *
 * Each asks for the token of the claim, which is of use to the role that claimed only.
 * To complete a batch is a change of its row in the caller's own transaction: together
 * with the change that goes with it, or not at all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api/outside.h"
#include "api/pages.h"
#include "api/token.h"
#include "api/unloaded.h"
#include "base/limit.h"
#include "run/lapse.h"
#include "shared/lease.h"
#include "shared/segment.h"
#include "shared/stock.h"
#include "store/lease.h"
#include "store/ledger.h"
#include "store/rowlease.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_extend);
PG_FUNCTION_INFO_V1(backfill_complete);
PG_FUNCTION_INFO_V1(backfill_fail);

/* ---- whose it is ---- */

/* Which batch a call is about, and by which right. */
typedef struct LeaseCall
{
	LeaseKey	key;
	LeaseToken	token;
	Oid			role;
	LeaseState	state;
	Lease		lease;			/* what is known of it, unless the state is LEASE_UNKNOWN */
} LeaseCall;

#define TOKEN_HINT "The token is that of the claim, and of use to the role that claimed only."

/* Nothing more is said: who has no rights on the run does not learn what is out. */
compat_noreturn static void
refuse_token(const LeaseCall *call)
{
	outside_refuse(&call->key, segment_available() ? "No batch is out with this token." :
				   "The lease ran out, or no batch is out with this token.", TOKEN_HINT);
}

/* Read the first four arguments, and refuse what is known to be in other hands. */
static void
read_call(FunctionCallInfo fcinfo, const char *function, LeaseCall *call)
{
	for (int i = 0; i < 4; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("run, batch, part and token cannot be null")));
	}
	PreventCommandDuringRecovery(function);
	call->key = lease_key(PG_GETARG_INT64(0), PG_GETARG_INT64(1), PG_GETARG_INT32(2));
	call->role = GetUserId();
	if (!token_parse(text_to_cstring(PG_GETARG_TEXT_PP(3)), &call->token))
		outside_refuse(&call->key, "What was given is no token.", TOKEN_HINT);
	if (!segment_available())
	{
		/* the row says */
		call->state = LEASE_UNKNOWN;
		return;
	}
	call->state = lease_check(&call->key, call->token.number, &call->token.secret, call->role,
							  &call->lease);
	if (call->state == LEASE_OVER)
		outside_refuse(&call->key, "The lease ran out, or the run was stopped at once.", NULL);
	if (call->state == LEASE_OTHER)
		refuse_token(call);
	if (call->state == LEASE_GOOD && call->lease.length == 0 && call->lease.pid != MyProcPid)
		outside_refuse(&call->key, "The lease is that of another session.",
					   "Behind a pooler that changes sessions between transactions, claim with the length of the lease.");
}

/* ---- the functions ---- */

/* Enter the lease of a batch of which only the row knows since a restart. */
static void
enter_again(LeaseCall *call)
{
	StoreSession store;
	LeasedBatch *batch;

	store_begin(&store);
	batch = store_find_lease(&store, call->key.run_id, call->key.number, call->key.part,
							 &call->token, call->role);
	store_end(&store);
	if (batch == NULL || batch->length == NULL)
		refuse_token(call);
	call->lease.length = lapse_restore(call->key.run_id, batch);
}

/* The lease lasts longer, where the row says until when. */
static TimestampTz
extend_row(LeaseCall *call, Interval *length)
{
	StoreSession store;
	TimestampTz until;
	bool		extended;

	if (length)
		(void) lapse_milliseconds(length);
	store_begin(&store);
	extended = rowlease_extend(&store, call->key.run_id, call->key.number, call->key.part,
							   &call->token, call->role, length, &until);
	store_end(&store);
	if (!extended)
		refuse_token(call);
	return until;
}

/* backfill_extend(run_id, number, part, token, lease) */
Datum
backfill_extend(PG_FUNCTION_ARGS)
{
	LeaseCall	call;
	int64		length;
	TimestampTz until;

	read_call(fcinfo, "backfill_extend()", &call);
	if (!segment_available())
		PG_RETURN_TIMESTAMPTZ(extend_row(&call, PG_ARGISNULL(4) ? NULL : PG_GETARG_INTERVAL_P(4)));
	if (call.state == LEASE_UNKNOWN &&
		pages_is_page(call.key.run_id, call.key.number, &call.token))
	{
		if (!pages_extend(call.key.run_id, call.key.number, &call.token, call.role,
						  PG_ARGISNULL(4) ? NULL : PG_GETARG_INTERVAL_P(4), &until))
			refuse_token(&call);
		PG_RETURN_TIMESTAMPTZ(until);
	}
	if (call.state == LEASE_UNKNOWN)
		enter_again(&call);
	if (call.lease.length == 0)
		PG_RETURN_NULL();		/* there is nothing to be extended */
	length = PG_ARGISNULL(4) ? call.lease.length : lapse_milliseconds(PG_GETARG_INTERVAL_P(4));
	if (!lease_extend(&call.key, call.token.number, length, &until))
		outside_refuse(&call.key, "The lease ran out.", NULL);
	PG_RETURN_TIMESTAMPTZ(until);
}

/*
 * The batch is completed if the transaction commits, with so many rows, of which so many are done,
 * or -1 while some are unconfirmed, and so many bytes of WAL.
 */
static void
note_completed(const LeaseCall *call, const LeaseSize *size, int64 rows, int64 done, int64 wal)
{
	OutsideBatch batch = {
		.rows_scanned = size->rows_scanned,
		.rows_affected = rows,
		.wal_bytes = wal,
		.is_hooked = size->is_hooked,
		.rows_done = done,
		.owner = size->owner,
		.duration = size->duration
	};

	namestrcpy(&batch.name, size->name);
	outside_completed(&call->key, call->token.number, &batch);
}

/* backfill_complete(run_id, number, part, token, rows) */
Datum
backfill_complete(PG_FUNCTION_ARGS)
{
	LeaseCall	call;
	StoreSession store;
	int64		rows = PG_ARGISNULL(4) ? -1 : PG_GETARG_INT64(4);
	int64		wal = outside_wal();
	LeaseSize	size;
	bool		completed;
	LedgerDone *done = NULL;
	int			tries;

	/* budgets and sums of many batches have to hold it */
	if (!PG_ARGISNULL(4) && (rows < 0 || rows > PG_INT32_MAX))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of rows must be between 0 and %d", PG_INT32_MAX)));
	read_call(fcinfo, "backfill_complete()", &call);
	if (call.state == LEASE_UNKNOWN &&
		pages_is_page(call.key.run_id, call.key.number, &call.token))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a page of a source cannot be completed by a client"),
				 errhint("Give its records to backfill_put.")));
	store_begin(&store);
	completed = (segment_available() ||
				 rowlease_hold(&store, call.key.run_id, call.key.number, call.key.part,
							   &call.token, call.role, &tries)) &&
		store_complete_lease(&store, call.key.run_id, call.key.number, call.key.part,
									 &call.token, call.role, rows, wal, &size);
	if (completed && size.has_ledger)
		done = ledger_close_batch(&store, call.key.run_id, call.key.number, call.key.part,
								  "completed");
	store_end(&store);
	if (!completed)
		refuse_token(&call);
	rows = rows < 0 ? size.rows : rows;
	if (segment_available())
		note_completed(&call, &size, rows, size.has_ledger ? (done ? done->rows : -1) : rows, wal);
	(void) outside_wal();
	PG_RETURN_VOID();
}

/* A text argument of limited length, or NULL. */
static char *
short_text_arg(FunctionCallInfo fcinfo, int n, const char *what, int most)
{
	text	   *value;

	if (PG_ARGISNULL(n))
		return NULL;
	value = PG_GETARG_TEXT_PP(n);
	limit_check_bytes(what, VARSIZE_ANY_EXHDR(value), most);
	return text_to_cstring(value);
}

/* The five characters of an SQLSTATE, or NULL. */
static char *
sqlstate_arg(FunctionCallInfo fcinfo, int n)
{
	char	   *state = short_text_arg(fcinfo, n, "the SQLSTATE", LIMIT_TEXT);

	if (state && (strlen(state) != 5 || strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is no SQLSTATE", state),
				 errdetail("An SQLSTATE has five digits or capital letters.")));
	return state;
}

/* backfill_fail(run_id, number, part, token, message, sqlstate, retryable, key, retry_after) */
Datum
backfill_fail(PG_FUNCTION_ARGS)
{
	LeaseCall	call;
	StoreSession store;
	LeaseReport report = {
		.message = short_text_arg(fcinfo, 4, "the message", LIMIT_TEXT),
		.sqlstate = sqlstate_arg(fcinfo, 5),
		.retryable = PG_ARGISNULL(6) ? -1 : PG_GETARG_BOOL(6),
		.key = PG_ARGISNULL(7) ? NULL : PG_GETARG_ARRAYTYPE_P(7)
	};
	LedgerDone *done;
	bool		reported;

	if (report.key)
		limit_check_bytes("the key", VARSIZE(report.key), LIMIT_NOTE);
	read_call(fcinfo, "backfill_fail()", &call);
	if (call.state == LEASE_UNKNOWN &&
		pages_is_page(call.key.run_id, call.key.number, &call.token))
	{
		if (!pages_fail(call.key.run_id, call.key.number, &call.token, call.role, &report,
						PG_ARGISNULL(8) ? NULL : PG_GETARG_INTERVAL_P(8)))
			refuse_token(&call);
		PG_RETURN_VOID();
	}
	if (!PG_ARGISNULL(8))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"retry_after\" can be given for a page of a source only"),
				 errdetail("When a batch is tried again, the setting \"retry_delay\" says.")));
	if (!segment_available())
	{
		if (!unloaded_fail(&call.key, &call.token, call.role, &report))
			refuse_token(&call);
		PG_RETURN_VOID();
	}
	store_begin(&store);
	reported = ledger_fail_batch(&store, call.key.run_id, call.key.number, call.key.part,
								 &call.token, call.role, report.message, &done) ||
		store_report_lease(&store, call.key.run_id, call.key.number, call.key.part,
						   &call.token, call.role, &report);
	store_end(&store);
	if (!reported)
		refuse_token(&call);
	outside_failed(&call.key, call.token.number);
	outside_done(call.key.run_id, done);
	PG_RETURN_VOID();
}
