/*-------------------------------------------------------------------------
 *
 * setting.h
 *	  The values of settings: from JSON, to text, and what is wrong with them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SETTINGS_SETTING_H
#define BACKFILL_SETTINGS_SETTING_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "base/quantity.h"

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
	char	   *repair;			/* NULL for none */
	int64		max_errors;		/* rows, 0 is none */
	int64		max_error_rate; /* millionths */
	int64		direction;		/* one of WALK_ASCENDING, WALK_DESCENDING */
	int64		synchronous_commit; /* one of the SYNC_ values below */
	int64		max_batches;	/* 0 is none */
	int64		max_duration;	/* likewise */
	int64		verify;			/* boolean */
	int64		ledger;			/* boolean */
	int64		outside;		/* boolean; a run without a statement is, whatever it says */
	int64		max_claims;		/* 0 is none */
	int64		prefetch;		/* pages of a source */
	int64		rate_limit_counts;	/* one of the COUNT_ values below */
	char	   *share_by;		/* first column of the key, or an expression, or NULL */
	RateLimit	share_rate_limit;	/* of each of its values */
	List	   *weights;		/* Weight *, of its values */
	int64		share_target;	/* boolean */
	TimestampTz initial_value;	/* DT_NOBEGIN is none */
	TimestampTz end_value;		/* DT_NOEND is none */
	int64		lookback;
	List	   *from;			/* char *, a prefix of the key, or NIL */
	List	   *to;
	List	   *group_by;		/* char *, the first columns of the key, or NIL */
	int64		distinct;		/* boolean */
	List	   *set;			/* ServerParameter * */

	/* the pace; what is 0, NIL or NULL does not apply */
	int64		preset;			/* one of the PRESET_ values below */
	int64		target_batch_time;
	int64		max_batch_time;
	int64		reuse_space;	/* boolean */
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
	int64		max_growth;		/* bytes; below 0, millionths of the size */
	int64		max_dead_rows;	/* millionths */
	int64		pause_for_maintenance;	/* boolean */
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
#define COUNT_RECORDS	0
#define COUNT_CALLS		1
#define WALK_ASCENDING	0
#define WALK_DESCENDING 1

/* The key that stands for the pages of a table. */
#define KEY_OF_PAGES	"ctid"

/* The weight of a value of share_by. */
typedef struct Weight
{
	char	   *value;
	double		weight;
} Weight;

typedef enum SettingType
{
	SETTING_BOOL,				/* true or false */
	SETTING_INTEGER,			/* a JSON number without fraction */
	SETTING_WORKERS,			/* the same, or "auto", which is zero */
	SETTING_INTERVAL,			/* a string that is an interval; 0 and "off" for zero */
	SETTING_ENUM,				/* one of a list of words */
	SETTING_NUMBER,				/* a JSON number, kept in millionths */
	SETTING_BYTES,				/* a JSON number of bytes, or a string with a unit */
	SETTING_GROWTH,				/* the same, or a string such as "20 %"; below 0, millionths */
	SETTING_ROW_RATE,			/* a string such as "3000 per 5 min" */
	SETTING_BYTE_RATE,			/* a string such as "20MB per second" */
	SETTING_KEY,				/* a scalar or an array of scalars */
	SETTING_EXPRESSION,				/* a string, a column or an expression */
	SETTING_COLUMNS,			/* a string or an array of strings */
	SETTING_WEIGHTS,			/* an object of numbers above 0 */
	SETTING_WINDOWS,			/* an array of objects; see window.c */
	SETTING_PARAMETERS,			/* an object of server parameters; see serverparams.c */
	SETTING_TIME,				/* a string that is a time with its zone; in microseconds */
	SETTING_SQL					/* a string that is one SQL statement */
} SettingType;

/* cannot change once the run exists */
#define SETTING_FIXED	0x01

/* there is none by default */
#define SETTING_NONE	0x02

/* sets the pace, and may depend on the hour */
#define SETTING_PACE	0x04

typedef struct Setting
{
	const char *name;
	SettingType type;
	size_t		offset;			/* of the member of RunSettings */
	int64		boot;			/* default, in milliseconds for an interval */
	int64		min;
	int64		max;
	const char *const *words;	/* of an enumeration, ending in NULL */
	int			flags;
	const char *description;
} Setting;

extern char *setting_text(const Setting *setting, int64 value);
extern bool setting_is_ranged(const Setting *setting);
extern void setting_set_default(const Setting *setting, RunSettings *result);
extern void setting_apply(const Setting *setting, JsonbValue *value,
						  RunSettings *result);

#endif							/* BACKFILL_SETTINGS_SETTING_H */
