/*-------------------------------------------------------------------------
 *
 * explain_text.h
 *	  What backfill_explain says, as lines of text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_EXPLAIN_TEXT_H
#define BACKFILL_REHEARSAL_EXPLAIN_TEXT_H

#include "lib/stringinfo.h"

#include "rehearsal/facts.h"

extern void explain_text_append(StringInfo out, const Facts *facts);

#endif							/* BACKFILL_REHEARSAL_EXPLAIN_TEXT_H */
