/*-------------------------------------------------------------------------
 *
 * control.h
 *	  The SQL functions that start, stop and change runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_CONTROL_H
#define BACKFILL_CONTROL_H

#include "catalog.h"

extern RunInfo *control_find_run(CatalogSession *session, int64 id, Oid caller,
								 bool for_update);

#endif							/* BACKFILL_CONTROL_H */
