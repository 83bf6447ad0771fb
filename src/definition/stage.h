/*-------------------------------------------------------------------------
 *
 * stage.h
 *	  What is run once in a run, before and after its batches, as a text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_STAGE_H
#define BACKFILL_DEFINITION_STAGE_H

#include "nodes/pg_list.h"

#include "store/definition.h"

extern const char *stage_name(Stage stage);
extern List *stage_parse(Stage stage, const char *text);
extern bool stage_has_statements(Stage stage, const char *text);
extern bool stage_ends_transactions(Node *stmt);
extern bool stage_may_repeat(const char *text, int step);
extern char *stage_step_text(Stage stage, const char *text, int step);

#endif							/* BACKFILL_DEFINITION_STAGE_H */
