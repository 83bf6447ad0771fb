/*-------------------------------------------------------------------------
 *
 * finish.h
 *	  The last step of a run, as a text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_FINISH_H
#define BACKFILL_DEFINITION_FINISH_H

#include "nodes/pg_list.h"

extern List *finish_parse(const char *text);
extern bool finish_ends_transactions(Node *stmt);
extern bool finish_may_repeat(const char *text, int step);
extern char *finish_step_text(const char *text, int step);

#endif							/* BACKFILL_DEFINITION_FINISH_H */
