/*-------------------------------------------------------------------------
 *
 * position.h
 *	  Errors that point into a text of the user's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_POSITION_H
#define BACKFILL_BASE_POSITION_H

/* For turning an error position into one of an internal query. */
typedef struct PositionText
{
	const char *what;
	const char *text;
} PositionText;

extern void position_error_callback(void *arg);

#endif							/* BACKFILL_BASE_POSITION_H */
