/*-------------------------------------------------------------------------
 *
 * shorten.h
 *	  The text of a plan, made short.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_SHORTEN_H
#define BACKFILL_REHEARSAL_SHORTEN_H

#include "lib/stringinfo.h"

extern void shorten_plan(StringInfo text, int from, int lines);

#endif							/* BACKFILL_REHEARSAL_SHORTEN_H */
