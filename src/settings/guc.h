/*-------------------------------------------------------------------------
 *
 * guc.h
 *	  The server parameters of the extension.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SETTINGS_GUC_H
#define BACKFILL_SETTINGS_GUC_H

#include "base/quantity.h"

/* The library, which has the name of the extension. */
#define GUC_LIBRARY	"backfill"

extern int	guc_max_workers;
extern int	guc_max_leases;
extern int	guc_max_metrics;
extern int	guc_event_retention;
extern char *guc_note;
extern RateLimit guc_rate_limit;
extern RateLimit guc_wal_rate_limit;

extern void guc_define(void);

#endif							/* BACKFILL_SETTINGS_GUC_H */
