/*-------------------------------------------------------------------------
 *
 * turn.h
 *	  Which page of a source is next, to be fetched or to be applied.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_TURN_H
#define BACKFILL_ENGINE_TURN_H

#include "engine/session.h"
#include "store/batch.h"

/* So many workers find something to do in one source: one applies, and one fetches unless clients do. */
#define TURN_HANDS(source)	(source_is_client(source) ? 1 : 2)

/* Who claims a page. */
typedef struct TurnClaimant
{
	int64		token;
	int			number;			/* of the worker */
	int			crashes_below;	/* no page that has brought down as many workers */
} TurnClaimant;

/* Why there is none to be had; all zero: the source has come to its end. */
typedef struct TurnRefusal
{
	bool		busy;			/* others are at it */
	bool		suspect;		/* one has brought down too many */
	TimestampTz next_due;		/* when one is to be tried again, or 0 */
	char	   *reason;			/* for that wait, or NULL */
} TurnRefusal;

extern bool turn_counts_calls(const Session *session);
extern BatchInfo *turn_claim(Session *session, const TurnClaimant *claimant,
							 TurnRefusal *refusal);

#endif							/* BACKFILL_ENGINE_TURN_H */
