/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  The SQL functions that say what became of rows in a ledger.
 *
 * What does not roll back, a letter or a payment, is done between two transactions: one in
 * which the row is claimed, and one in which it is confirmed.  What was claimed and not
 * confirmed is handed out again only when somebody has said that it was not done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "api/outside.h"
#include "api/token.h"
#include "base/limit.h"
#include "run/access.h"
#include "shared/lease.h"
#include "shared/wake.h"
#include "store/ledger.h"
#include "store/lease.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_confirm);
PG_FUNCTION_INFO_V1(backfill_settle);

/* The run, which has a ledger and may be controlled by the caller of the function. */
static LeaseRun *
find_run(StoreSession *store, int64 run_id, Oid caller)
{
	LeaseRun   *run = store_lease_run(store, run_id);

	access_check_run(run_id, run ? run->owner : InvalidOid, caller);
	if (!run->has_ledger || run->nkeys == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("backfill run " INT64_FORMAT " has no ledger", run_id),
				 errhint("Give the setting {\"ledger\": true} to backfill_define or backfill_start.")));
	return run;
}

/* The keys: an array of them, or of arrays for a key of several columns. */
static ArrayType *
keys_arg(FunctionCallInfo fcinfo, int n, const LeaseRun *run)
{
	ArrayType  *keys = PG_GETARG_ARRAYTYPE_P(n);
	int			values = ArrayGetNItems(ARR_NDIM(keys), ARR_DIMS(keys));
	Datum	   *elements;

	limit_check_bytes("the keys", VARSIZE(keys), LIMIT_TEXT);
	if (ARR_HASNULL(keys))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a key cannot be null")));
	if (values % run->nkeys != 0 || (run->nkeys > 1 && values > 0 &&
									 (ARR_NDIM(keys) != 2 || ARR_DIMS(keys)[1] != run->nkeys)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a key of backfill run " INT64_FORMAT " has %d columns", run->id, run->nkeys),
				 errhint("Give an array of keys, each an array of its columns.")));

	/* row by row, as one array */
	deconstruct_array(keys, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &values);
	return construct_array(elements, values, TEXTOID, -1, false, TYPALIGN_INT);
}

/* backfill_confirm(run_id, token, keys) */
Datum
backfill_confirm(PG_FUNCTION_ARGS)
{
	StoreSession store;
	LeaseToken	token;
	LeaseRun   *run;
	LeaseKey	key;
	Oid			caller = GetUserId();
	LedgerDone *done;
	int64		n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("run, token and keys cannot be null")));
	PreventCommandDuringRecovery("backfill_confirm()");
	key = lease_key(PG_GETARG_INT64(0), 0, 0);
	if (!token_parse(text_to_cstring(PG_GETARG_TEXT_PP(1)), &token))
		outside_refuse(&key, "What was given is no token.", NULL);
	if (outside_claims(token.number))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot confirm rows in the transaction that has claimed them"),
				 errdetail("If it were rolled back, nobody would know that they were handed out."),
				 errhint("Commit the claim before anything is done with its rows.")));
	store_begin(&store);
	run = find_run(&store, key.run_id, caller);
	n = ledger_confirm(&store, key.run_id, &token, caller, run->nkeys,
					   keys_arg(fcinfo, 2, run), &done);
	store_end(&store);
	if (n < 0)
		outside_refuse(&key, "Rows with some of the keys are not out with this token.",
					   "The token is that of the claim, and of use to the role that claimed only.");
	outside_done(key.run_id, done);
	ForceSyncCommit();
	PG_RETURN_INT64(n);
}

/* backfill_settle(run_id, keys, done) */
Datum
backfill_settle(PG_FUNCTION_ARGS)
{
	int64		run_id = PG_GETARG_INT64(0);
	Oid			caller = GetUserId();
	StoreSession store;
	LeaseRun   *run;
	List	   *done;
	ListCell   *lc;
	int64		n;

	PreventCommandDuringRecovery("backfill_settle()");
	store_begin(&store);
	run = find_run(&store, run_id, caller);
	n = ledger_settle(&store, run_id, run->nkeys, keys_arg(fcinfo, 1, run),
					  PG_GETARG_BOOL(2), GetUserNameFromId(caller, false), &done);
	store_end(&store);
	foreach(lc, done)
		outside_done(run_id, lfirst(lc));
	wake_at_commit((WakeTarget) {run->owner, run->id});
	PG_RETURN_INT64(n);
}
