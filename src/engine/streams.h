/*-------------------------------------------------------------------------
 *
 * streams.h
 *	  A worker comes by a stream, and lets go of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_ENGINE_STREAMS_H
#define BACKFILL_ENGINE_STREAMS_H

#include "engine/claim.h"
#include "engine/session.h"

extern void streams_list(Session *session, void *arg);
extern void streams_find_ends(Session *session, void *arg);
extern bool streams_take(Worker *worker);
extern bool streams_switch(Worker *worker);
extern void streams_end(Worker *worker);
extern bool streams_show(Worker *worker, int64 id);

#endif							/* BACKFILL_ENGINE_STREAMS_H */
