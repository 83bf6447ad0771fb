/*-------------------------------------------------------------------------
 *
 * pass.h
 *	  A walk by pages comes again until nothing is left.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_PASS_H
#define BACKFILL_ENGINE_PASS_H

#include "engine/session.h"
#include "engine/work.h"

/* What the end of a pass is about, for session_try. */
typedef struct PassEnd
{
	Work	   *work;
	bool		again;			/* result: another pass begins */
} PassEnd;

extern void pass_choose_row(Session *session, Work *work, const Datum *start,
							bool start_inclusive, const Datum *end);
extern void pass_check_row(Session *session, Work *work);
extern void pass_end(Session *session, void *arg);

#endif							/* BACKFILL_ENGINE_PASS_H */
