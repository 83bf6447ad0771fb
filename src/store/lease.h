/*-------------------------------------------------------------------------
 *
 * lease.h
 *	  The rows of batches that clients have in their hands.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_LEASE_H
#define BACKFILL_STORE_LEASE_H

#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "store/batch.h"
#include "store/status.h"
#include "store/store.h"

/*
 * That a batch is in the hands of the role that shows its token, with the arguments that
 * store_lease_args gives.
 */
#define STORE_LEASE_IS_MINE \
	" WHERE run_id = $1 AND number = $2 AND part = $3 AND status = 'running' " \
	"   AND token = $4 AND secret = $5 AND claimed_by = $6 "
#define STORE_LEASE_TYPES	INT8OID, INT8OID, INT4OID, INT8OID, UUIDOID, OIDOID
#define STORE_LEASE_ARGS	6

/* What a client shows to be let at its batch. */
typedef struct LeaseToken
{
	int64		number;			/* from the sequence */
	pg_uuid_t	secret;
} LeaseToken;

/* A claim of a client, as it is written into the row of the batch. */
typedef struct LeaseClaim
{
	const char *client;			/* name that it gave */
	Oid			role;
	Interval   *length;			/* NULL for the time of the session */
	bool		in_row;			/* the row says until when; otherwise shared memory does */
	LeaseToken	token;			/* the result; the secret is the caller's */
	TimestampTz until;			/* likewise, if the row says so */
} LeaseClaim;

/* What a claim has to know of the run. */
typedef struct LeaseRun
{
	int64		id;
	RunStatus	status;
	char	   *requested;		/* status, or NULL */
	Oid			owner;
	Oid			target;
	bool		is_local;
	bool		is_outside;		/* clients take part */
	char	   *throttled_by;
	char	   *wait_reason;
	char	   *error;
	ArrayType  *conditions;		/* NULL until the first worker has come */
	bool		has_ledger;
	int			nkeys;			/* 0 until then */
	bool		is_source;		/* clients bring pages */
	char	   *name;
	Jsonb	   *settings;
} LeaseRun;

/* A batch in the hands of a client. */
typedef struct LeasedBatch
{
	int64		number;
	int			part;
	int64		token;
	pg_uuid_t	secret;
	int64		rows;
	Oid			role;
	char	   *client;
	Interval   *length;			/* NULL for the time of a session */
} LeasedBatch;

/* How many rows a batch has that a client completes, and what else is to be known of it. */
typedef struct LeaseSize
{
	int64		rows;			/* in scope */
	int64		rows_scanned;
	bool		has_ledger;
	bool		is_hooked;		/* hooks are to be told that it is completed */
	Oid			owner;			/* of the run */
	char	   *name;			/* of its definition, in the caller's memory context */
	int64		duration;		/* since the claim, in microseconds */
} LeaseSize;

/* What taking a batch back from a client comes to. */
typedef enum LapseResult
{
	LAPSE_DONE,
	LAPSE_UNCONFIRMED,			/* likewise, and the rows have a ledger */
	LAPSE_BUSY,					/* the client is just completing it */
	LAPSE_GONE					/* it is not in that client's hands any more */
} LapseResult;

/* An error that a client has reported. */
typedef struct LeaseReport
{
	char	   *message;
	char	   *sqlstate;
	int			retryable;		/* 1, 0, or -1 for what the SQLSTATE says */
	ArrayType  *key;			/* of the row that failed, or NULL */
} LeaseReport;

extern void store_stock_batch(StoreSession *session, int64 run_id, const BatchInfo *batch);
extern List *store_stocked_batches(StoreSession *session, int64 run_id, TimestampTz now, int most);
extern TimestampTz store_stocked_due(StoreSession *session, int64 run_id, TimestampTz now);
extern BatchInfo *store_lease_batch(StoreSession *session, int64 run_id, int64 number, int part,
									LeaseClaim *claim);
extern void store_return_batch(StoreSession *session, int64 run_id, int64 number, int part,
							   int64 token);
extern void store_lease_args(Datum *args, int64 run_id, int64 number, int part,
							 const LeaseToken *token, Oid role);
extern LeaseRun *store_lease_run(StoreSession *session, int64 id);
extern LeasedBatch *store_find_lease(StoreSession *session, int64 run_id, int64 number, int part,
									 const LeaseToken *token, Oid role);
extern bool store_complete_lease(StoreSession *session, int64 run_id, int64 number, int part,
								 const LeaseToken *token, Oid role, int64 rows,
								 int64 wal_bytes, LeaseSize *size);
extern bool store_report_lease(StoreSession *session, int64 run_id, int64 number, int part,
							   const LeaseToken *token, Oid role, const LeaseReport *report);
extern BatchInfo *store_take_reported(StoreSession *session, int64 run_id, int64 token,
									  int worker, LeaseReport *report);
extern BatchInfo *store_take_hooked(StoreSession *session, int64 run_id, int64 *rows);
extern bool store_is_hooked(StoreSession *session, int64 run_id);
extern List *store_leased_batches(StoreSession *session, int64 run_id);
extern LapseResult store_lapse_batch(StoreSession *session, int64 run_id, int64 number, int part,
							  int64 token);
extern void store_set_conditions(StoreSession *session, int64 run_id, ArrayType *conditions);

#endif							/* BACKFILL_STORE_LEASE_H */
