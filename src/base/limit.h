/*-------------------------------------------------------------------------
 *
 * limit.h
 *	  How much a user may give.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_LIMIT_H
#define BACKFILL_BASE_LIMIT_H

/* Bytes. */
#define LIMIT_TEXT			1048576 /* of each text of a definition, and the like */
#define LIMIT_SETTINGS		65536	/* of settings, as jsonb */
#define LIMIT_STREAM_NAME	255		/* of the name of a stream */
#define LIMIT_NOTE			65536	/* of an error as it is kept, and the like */
#define LIMIT_TOKEN			65536	/* of a token of a source, as jsonb */
#define LIMIT_PAGE			268435455	/* of the records of a page, as jsonb: no array is larger */

/* How many. */
#define LIMIT_AFTER			1000	/* runs that a run waits for */
#define LIMIT_WINDOWS		100
#define LIMIT_DATES			366		/* dates and ranges of them in a window */
#define LIMIT_PARAMETERS	1000	/* that a definition declares */
#define LIMIT_WEIGHTS		1000	/* in the setting "weights" */
#define LIMIT_SERVER_PARAMETERS 50	/* in the setting "set" */
#define LIMIT_OPTIONS		1000	/* of a parameter */
#define LIMIT_FOLLOWERS		100		/* definitions in "followers" */
#define LIMIT_RECORDS		1000000 /* of a page of a source */
#define LIMIT_STREAMS		100000	/* of a run */
#define LIMIT_FOLLOWER_STREAMS 1000	/* for each of which a follower is started */
#define LIMIT_HOOKS			100		/* of a definition, or of all */

extern void limit_check_bytes(const char *what, Size bytes, Size most);
extern void limit_check_number(const char *what, int64 number, int64 most);

#endif							/* BACKFILL_BASE_LIMIT_H */
