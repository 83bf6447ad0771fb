/*-------------------------------------------------------------------------
 *
 * divide.h
 *	  Dividing a batch that failed, and leaving a row out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_DIVIDE_H
#define BACKFILL_ENGINE_DIVIDE_H

#include "engine/claim.h"
#include "engine/session.h"

/* Into so many parts a batch is divided to find the row that fails. */
#define DIVIDE_PARTS			8
/* And into so many one that is to become many short ones. */
#define DIVIDE_MANY				32
/* The share of failed rows counts from so many on. */
#define DIVIDE_JUDGED_ROWS		50

/* How to divide the batch in hand, and whether it was. */
typedef struct Division
{
	Worker	   *worker;
	const ErrorData *error;		/* that it met, or NULL */
	int			parts;			/* to make, at most */
	int64		fitting;		/* rows of the first part; without an error */
	bool		divided;		/* result; false: it is one row, and still in hand */
} Division;

/* The batch in hand, which is one row, is to be left out. */
typedef struct Skip
{
	Worker	   *worker;
	const ErrorData *error;		/* that the row has met */
	const char *repair_error;	/* that its repair has met, or NULL */
	ArrayType  *key;			/* of the row */
	bool		too_many;		/* result: more than the settings allow */
} Skip;

extern void divide_batch(Session *session, void *arg);
extern ArrayType *divide_find_row(Worker *worker);
extern void divide_skip(Session *session, void *arg);

#endif							/* BACKFILL_ENGINE_DIVIDE_H */
