/*-------------------------------------------------------------------------
 *
 * depend.h
 *	  Runs that wait for other runs, and runs that follow others.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEPEND_H
#define BACKFILL_DEPEND_H

#include "worker.h"

extern char *depend_wait_reason(CatalogSession *session, ArrayType *after);
extern void depend_check_then(Jsonb *then, const char *name);
extern void depend_start_followers(Worker *worker);

#endif							/* BACKFILL_DEPEND_H */
