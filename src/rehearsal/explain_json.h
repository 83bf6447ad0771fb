/*-------------------------------------------------------------------------
 *
 * explain_json.h
 *	  What backfill_explain says, as JSON.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_EXPLAIN_JSON_H
#define BACKFILL_REHEARSAL_EXPLAIN_JSON_H

#include "lib/stringinfo.h"

#include "rehearsal/facts.h"

extern void explain_json_append(StringInfo out, const Facts *facts);

#endif							/* BACKFILL_REHEARSAL_EXPLAIN_JSON_H */
