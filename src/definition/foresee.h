/*-------------------------------------------------------------------------
 *
 * foresee.h
 *	  What can be told of SQL that is to be run later.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_FORESEE_H
#define BACKFILL_DEFINITION_FORESEE_H

#include "nodes/parsenodes.h"

extern ErrorData *foresee_query(RawStmt *raw, const char *text, Query **query);
extern void foresee_finish(const char *text, List *raws);
extern void foresee_probe(const char *text);

#endif							/* BACKFILL_DEFINITION_FORESEE_H */
