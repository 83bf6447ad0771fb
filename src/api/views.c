/*-------------------------------------------------------------------------
 *
 * views.c
 *	  The SQL functions behind the views.
 *
 * What is live comes from shared memory, copied under its lock; the vocabulary of
 * settings from its table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/formatting.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "run/access.h"
#include "settings/guc.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "settings/window.h"
#include "shared/lease.h"
#include "shared/room.h"
#include "shared/run_slot.h"
#include "shared/scheduler_slot.h"
#include "shared/segment.h"
#include "shared/worker_slot.h"
#include "store/rowlease.h"
#include "store/store.h"

/* ---- live ---- */

PG_FUNCTION_INFO_V1(backfill_live_workers);
PG_FUNCTION_INFO_V1(backfill_live_streams);
PG_FUNCTION_INFO_V1(backfill_live_leases);
PG_FUNCTION_INFO_V1(backfill_live_runs);

static const char *
worker_state_name(WorkerState state)
{
	switch (state)
	{
		case WORKER_STARTING:
			return "starting";
		case WORKER_PREPARING:
			return "preparing";
		case WORKER_WAITING:
			return "waiting";
		case WORKER_FETCHING:
			return "fetching";
		case WORKER_RUNNING:
			return "running";
		case WORKER_SLEEPING:
			return "sleeping";
		case WORKER_THROTTLED:
			return "throttled";
		case WORKER_RETRYING:
			return "retrying";
		case WORKER_CHANGING:
			return "changing";
		case WORKER_VERIFYING:
			return "verifying";
		case WORKER_FINISHING:
			return "finishing";
		case WORKER_LEAVING:
			return "leaving";
	}
	return NULL;
}

/* backfill.live_workers(): empty when the library was not preloaded. */
Datum
backfill_live_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	WorkerSlot *copies;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (!segment_available())
		return (Datum) 0;
	n = worker_slot_copy(MyDatabaseId, &copies);
	for (int i = 0; i < n; i++)
	{
		WorkerSlot *w = &copies[i];
		Datum		values[13];
		bool		nulls[13] = {false};

		values[0] = Int32GetDatum(w->number);
		values[1] = Int32GetDatum(w->pid);
		nulls[1] = !w->attached;
		values[2] = Int64GetDatum(w->run_id);
		values[3] = Int64GetDatum(w->stream);
		nulls[3] = w->stream == 0;
		values[4] = ObjectIdGetDatum(w->owner);
		values[5] = CStringGetTextDatum(worker_state_name(w->state));
		values[6] = TimestampTzGetDatum(w->state_since);
		values[7] = Int64GetDatum(w->batch);
		values[8] = Int32GetDatum(w->attempt);
		nulls[7] = nulls[8] = w->batch == 0;
		values[9] = Int64GetDatum(w->batches);
		values[10] = Int64GetDatum(w->rows_scanned);
		values[11] = Int64GetDatum(w->rows_affected);
		values[12] = TimestampTzGetDatum(w->started_at);
		nulls[12] = !w->attached;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* backfill.live_streams(): a row for each worker that has one in hand. */
Datum
backfill_live_streams(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	WorkerSlot *copies;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (!segment_available())
		return (Datum) 0;
	n = worker_slot_copy(MyDatabaseId, &copies);
	for (int i = 0; i < n; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {false};

		if (copies[i].stream == 0)
			continue;
		values[0] = Int64GetDatum(copies[i].stream);
		values[1] = TimestampTzGetDatum(copies[i].stream_since);
		values[2] = Int64GetDatum(copies[i].stream_rows);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* The leases as the rows have them, where there is no shared memory. */
static void
put_row_leases(ReturnSetInfo *rsinfo)
{
	StoreSession store;
	List	   *leases;
	ListCell   *lc;

	store_begin(&store);
	leases = rowlease_list(&store);
	store_end(&store);
	foreach(lc, leases)
	{
		const RowLease *lease = lfirst(lc);
		Datum		values[11] = {0};
		bool		nulls[11] = {false};

		values[0] = Int64GetDatum(lease->run_id);
		values[1] = Int64GetDatum(lease->batch.number);
		values[2] = Int32GetDatum(lease->batch.part);
		values[3] = CStringGetTextDatum(lease->batch.client);
		values[4] = ObjectIdGetDatum(lease->batch.role);
		nulls[5] = nulls[6] = nulls[7] = true;
		values[8] = Int64GetDatum(lease->batch.rows);
		values[9] = TimestampTzGetDatum(lease->since);
		values[10] = TimestampTzGetDatum(lease->until);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* backfill.live_leases(): those of shared memory, or, if there is none, of the rows. */
Datum
backfill_live_leases(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Lease	   *copies;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (!segment_available())
	{
		put_row_leases(rsinfo);
		return (Datum) 0;
	}
	n = lease_copy(MyDatabaseId, &copies);
	for (int i = 0; i < n; i++)
	{
		Lease	   *lease = &copies[i];
		Datum		values[11];
		bool		nulls[11] = {false};

		values[0] = Int64GetDatum(lease->key.run_id);
		values[1] = Int64GetDatum(lease->key.number);
		values[2] = Int32GetDatum(lease->key.part);
		values[3] = CStringGetTextDatum(lease->client);
		values[4] = ObjectIdGetDatum(lease->role);
		values[5] = CStringGetTextDatum(lease->application);
		values[6] = CStringGetTextDatum(lease->address);
		nulls[6] = lease->address[0] == '\0';
		values[7] = Int32GetDatum(lease->pid);
		nulls[7] = lease->pid == 0;
		values[8] = Int64GetDatum(lease->rows);
		values[9] = TimestampTzGetDatum(lease->since);
		values[10] = TimestampTzGetDatum(lease->until);
		nulls[10] = lease->length == 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* backfill.live_runs() */
Datum
backfill_live_runs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	RunSlot    *copies;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (!segment_available())
		return (Datum) 0;
	n = run_slot_copy(MyDatabaseId, &copies);
	for (int i = 0; i < n; i++)
	{
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = Int64GetDatum(copies[i].run_id);
		values[1] = Int32GetDatum(worker_slot_count(MyDatabaseId, copies[i].run_id, NULL));
		values[2] = Float8GetDatum(rint(copies[i].rate * 10) / 10);
		nulls[2] = copies[i].rate < 0;
		values[3] = Int64GetDatum(copies[i].pace.size.size);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(backfill_missing_scheduler);

/* backfill.missing_scheduler(): why the runs of this database have none, or null */
Datum
backfill_missing_scheduler(PG_FUNCTION_ARGS)
{
	const char *reason;

	if (RecoveryInProgress())
		PG_RETURN_NULL();
	if (!segment_available())
		reason = "waits for a scheduler: backfill is not in \"shared_preload_libraries\"";
	else if (scheduler_slot_is_alive(MyDatabaseId))
		reason = NULL;
	else
		reason = access_is_closed() ? ACCESS_CLOSED_REASON : scheduler_slot_obstacle();
	if (reason == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(reason));
}

PG_FUNCTION_INFO_V1(backfill_check_room);

/* backfill.check_room(): a warning if the server has no room for all workers */
Datum
backfill_check_room(PG_FUNCTION_ARGS)
{
	if (segment_available())
		room_check(guc_max_workers, "all workers of backfill");
	PG_RETURN_VOID();
}

/* ---- settings and windows ---- */

PG_FUNCTION_INFO_V1(backfill_setting_list);

/* SQL: the vocabulary, one row a setting. */
Datum
backfill_setting_list(PG_FUNCTION_ARGS)
{
	static const char *const types[] = {
		[SETTING_BOOL] = "boolean",
		[SETTING_INTEGER] = "integer",
		[SETTING_WORKERS] = "integer",
		[SETTING_INTERVAL] = "interval",
		[SETTING_ENUM] = "enum",
		[SETTING_NUMBER] = "number",
		[SETTING_BYTES] = "bytes",
		[SETTING_GROWTH] = "growth",
		[SETTING_ROW_RATE] = "rate",
		[SETTING_BYTE_RATE] = "rate",
		[SETTING_KEY] = "key",
		[SETTING_EXPRESSION] = "expression",
		[SETTING_COLUMNS] = "columns",
		[SETTING_WEIGHTS] = "weights",
		[SETTING_WINDOWS] = "windows",
		[SETTING_PARAMETERS] = "parameters",
		[SETTING_TIME] = "timestamp",
		[SETTING_SQL] = "sql"
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	const Setting *settings;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	settings = settings_all(&n);
	for (int i = 0; i < n; i++)
	{
		const Setting *s = &settings[i];
		Datum		values[7];
		bool		nulls[7] = {false};
		bool		ranged = setting_is_ranged(s);

		values[0] = CStringGetTextDatum(s->name);
		values[1] = CStringGetTextDatum(types[s->type]);
		nulls[2] = (s->flags & SETTING_NONE) != 0;
		if (s->type == SETTING_ENUM)
			values[2] = CStringGetTextDatum(s->words[s->boot]);
		else if (!nulls[2])
			values[2] = CStringGetTextDatum(setting_text(s, s->boot));
		nulls[3] = nulls[4] = !ranged;
		if (ranged)
		{
			values[3] = CStringGetTextDatum(setting_text(s, s->min));
			values[4] = CStringGetTextDatum(setting_text(s, s->max));
		}
		nulls[5] = s->words == NULL;
		if (s->words != NULL)
		{
			Datum		words[8];
			int			nwords = 0;

			for (; s->words[nwords] != NULL; nwords++)
				words[nwords] = CStringGetTextDatum(s->words[nwords]);
			values[5] = PointerGetDatum(construct_array(words, nwords, TEXTOID, -1,
														false, TYPALIGN_INT));
		}
		values[6] = CStringGetTextDatum(s->description);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(backfill_window);

/* backfill_window(windows, at) */
Datum
backfill_window(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *windows = NIL;
	WindowMatch match;
	Datum		values[4] = {0};
	bool		nulls[4] = {false};

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the time to look at must not be null")));
	if (TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(1)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the time to look at must be finite")));
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0))
		windows = window_parse(&PG_GETARG_JSONB_P(0)->root);
	window_match(windows, PG_GETARG_TIMESTAMPTZ(1), &match);

	nulls[0] = match.window == NULL;
	values[0] = Int32GetDatum(match.number);
	values[1] = BoolGetDatum(match.window && match.window->closed);
	nulls[2] = match.window == NULL || match.window->settings == NULL;
	if (!nulls[2])
		values[2] = JsonbPGetDatum(match.window->settings);
	nulls[3] = TIMESTAMP_IS_NOEND(match.until);
	values[3] = TimestampTzGetDatum(match.until);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}

/* ---- runs ---- */

PG_FUNCTION_INFO_V1(backfill_is_local);

/* backfill.is_local(database, system_identifier) */
Datum
backfill_is_local(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_OID(0) == MyDatabaseId &&
				   (uint64) PG_GETARG_INT64(1) == GetSystemIdentifier());
}
