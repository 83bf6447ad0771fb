/*-------------------------------------------------------------------------
 *
 * bar.h
 *	  Bars of characters.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_BAR_H
#define BACKFILL_BASE_BAR_H

#include "lib/stringinfo.h"

extern void bar_append(StringInfo out, double share, int width, char rest);

#endif							/* BACKFILL_BASE_BAR_H */
