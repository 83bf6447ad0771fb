/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The process that starts a scheduler where one is needed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_PROCESS_LAUNCHER_H
#define BACKFILL_PROCESS_LAUNCHER_H

#include "base/compat.h"

extern void launcher_register(void);
extern PGDLLEXPORT void backfill_launcher_main(Datum arg);

#endif							/* BACKFILL_PROCESS_LAUNCHER_H */
