/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The vocabulary of settings of a run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SETTINGS_H
#define BACKFILL_SETTINGS_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "rate.h"
#include "window.h"

/* The settings of a run, resolved.  Times are in milliseconds. */
typedef struct RunSettings
{
	int64		batch_size;		/* rows */
	int64		sleep;
	int64		nice;			/* millionths of the batch's duration */
	int64		workers;		/* WORKERS_AUTO, or so many */
	int64		lock_timeout;	/* 0 is off */
	int64		statement_timeout;	/* 0 is off */
	int64		max_attempts;
	int64		retry_delay;
	int64		limit;			/* rows, 0 is none */
	int64		on_error;		/* one of the ON_ERROR_ values below */
	int64		max_errors;		/* rows, 0 is none */
	int64		max_error_rate; /* millionths */
	int64		direction;		/* one of WALK_ASCENDING, WALK_DESCENDING */
	int64		synchronous_commit; /* one of the SYNC_ values below */
	int64		verify;			/* boolean */
	int64		share_target;	/* boolean */
	List	   *from;			/* char *, a prefix of the key, or NIL */
	List	   *to;

	/* the pace; what is 0, NIL or NULL does not apply */
	int64		preset;			/* one of the PRESET_ values below */
	int64		target_batch_time;
	int64		min_batch_size;
	int64		max_batch_size;
	RateLimit	rate_limit;
	RateLimit	wal_rate_limit;
	List	   *windows;		/* Window * */
	int64		yield_after;
	int64		max_workers;
	int64		scale_interval;

	/* the health of the server */
	int64		max_replica_lag;
	int64		max_replica_lag_bytes;
	int64		max_slot_retained;
	int64		max_archive_backlog;
	int64		max_dead_rows;	/* millionths */
	int64		pause_for_vacuum;	/* boolean */
	int64		max_active_sessions;
	int64		max_xmin_age;
	int64		soft_limit;		/* millionths */
	char	   *probe;
	int64		probe_timeout;
} RunSettings;

#define ON_ERROR_FAIL	0
#define ON_ERROR_SKIP	1

#define WORKERS_AUTO	0

#define PRESET_BALANCED	0
#define PRESET_POLITE	1
#define PRESET_FAST		2

#define WALK_ASCENDING	0
#define WALK_DESCENDING 1

extern void settings_check(Jsonb *settings);
extern void settings_check_alterable(Jsonb *settings);
extern void settings_check_together(Jsonb *settings, const char *scope);
extern Jsonb *settings_merge(Jsonb *base, Jsonb *over);
extern Jsonb *settings_with(Jsonb *base, const char *name, const char *value);
extern char *settings_text(Jsonb *settings, const char *name);
extern void settings_resolve(Jsonb *settings, RunSettings *result);
extern void settings_resolve_at(Jsonb *object, TimestampTz at, RunSettings *result,
								WindowMatch *match);
extern const char *settings_synchronous_commit(const RunSettings *settings);

#endif							/* BACKFILL_SETTINGS_H */
