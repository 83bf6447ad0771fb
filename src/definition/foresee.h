/*-------------------------------------------------------------------------
 *
 * foresee.h
 *	  What can be told of SQL that is to be run later.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_FORESEE_H
#define BACKFILL_DEFINITION_FORESEE_H

#include "nodes/pg_list.h"

#include "base/owner.h"
#include "store/definition.h"

typedef struct Foresight Foresight;

extern Foresight *foresee_begin(void);
extern void foresee_stage(Foresight *foresight, Stage stage, const char *text, List *raws);
extern void foresee_statement(const char *what, OwnerFunction function, void *arg);
extern void foresee_probe(const char *text);
extern void foresee_streams(const char *text);

#endif							/* BACKFILL_DEFINITION_FORESEE_H */
