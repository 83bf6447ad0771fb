/*-------------------------------------------------------------------------
 *
 * metrics.c
 *	  The SQL functions behind the view backfill_metrics.
 *
 * They show what shared memory has counted, a sample a row, for each definition and owner;
 * the view leaves out what the caller may not see, adds up the owners, and adds how things
 * stand, from the tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "settings/guc.h"
#include "shared/metrics.h"
#include "shared/segment.h"

PG_FUNCTION_INFO_V1(backfill_live_metrics);
PG_FUNCTION_INFO_V1(backfill_metric_limit);

/* Whose samples are put, and where. */
typedef struct Samples
{
	ReturnSetInfo *rsinfo;
	Oid			owner;
	const char *definition;		/* NULL for none */
} Samples;

/*
 * Put a sample, with a label if that is not NULL.  The place is where it stands among those of its
 * name and definition.
 */
static void
put(const Samples *samples, const char *name, int place, const char *label,
	const char *label_value, double value)
{
	Datum		values[7];
	bool		nulls[7] = {false};

	values[0] = ObjectIdGetDatum(samples->owner);
	nulls[1] = samples->definition == NULL;
	if (samples->definition)
		values[1] = CStringGetTextDatum(samples->definition);
	values[2] = CStringGetTextDatum(name);
	values[3] = Int32GetDatum(place);
	nulls[4] = nulls[5] = label == NULL;
	if (label)
	{
		values[4] = CStringGetTextDatum(label);
		values[5] = CStringGetTextDatum(label_value);
	}
	values[6] = Float8GetDatum(value);
	tuplestore_putvalues(samples->rsinfo->setResult, samples->rsinfo->setDesc, values, nulls);
}

/* Put the durations as a histogram: of each bucket, the batches up to its bound. */
static void
put_durations(const Samples *samples, const Metrics *metrics)
{
	int64		batches = 0;

	for (int i = 0; i < METRICS_BUCKETS; i++)
	{
		batches += metrics->buckets[i];
		put(samples, "backfill_batch_duration_seconds_bucket", i, "le", metrics_bound(i),
			(double) batches);
	}
	put(samples, "backfill_batch_duration_seconds_bucket", METRICS_BUCKETS, "le", "+Inf",
		(double) metrics->timed);
	put(samples, "backfill_batch_duration_seconds_sum", 0, NULL, NULL,
		(double) metrics->duration / USECS_PER_SEC);
	put(samples, "backfill_batch_duration_seconds_count", 0, NULL, NULL,
		(double) metrics->timed);
}

/* Put everything that is counted of one definition; of the reasons, those that there were. */
static void
put_definition(const Samples *samples, const Metrics *metrics)
{
	put(samples, "backfill_rows_total", 0, NULL, NULL, (double) metrics->rows);
	put(samples, "backfill_batches_total", 0, NULL, NULL, (double) metrics->batches);
	put(samples, "backfill_wal_bytes_total", 0, NULL, NULL, (double) metrics->wal_bytes);
	put_durations(samples, metrics);
	for (int i = 0; i < METRICS_REASONS; i++)
	{
		if (metrics->throttled[i] > 0)
			put(samples, "backfill_throttled_seconds_total", i, "reason", metrics_reason(i),
				(double) metrics->throttled[i] / USECS_PER_SEC);
	}
}

/* backfill.live_metrics(): empty when the library was not preloaded. */
Datum
backfill_live_metrics(PG_FUNCTION_ARGS)
{
	Samples		samples = {.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo};
	Metrics    *copies;
	int64		uncounted;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (!segment_available())
		return (Datum) 0;
	n = metrics_copy(MyDatabaseId, &copies, &uncounted);
	for (int i = 0; i < n; i++)
	{
		samples.owner = copies[i].key.owner;
		samples.definition = copies[i].key.name;
		put_definition(&samples, &copies[i]);
	}

	/* nobody's, so that only those see it who see everything */
	samples.owner = InvalidOid;
	samples.definition = NULL;
	put(&samples, "backfill_uncounted_batches_total", 0, NULL, NULL, (double) uncounted);
	return (Datum) 0;
}

/* backfill.metric_limit() */
Datum
backfill_metric_limit(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(guc_max_metrics);
}
