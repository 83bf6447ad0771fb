/*-------------------------------------------------------------------------
 *
 * repair.h
 *	  The repair of a row that failed, as a text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_REPAIR_H
#define BACKFILL_DEFINITION_REPAIR_H

#include "settings/parameters.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* The relation whose columns what is known of the row that failed seems to be. */
#define REPAIR_FAILED	"failed"

extern Parameters *repair_parameters(const Parameters *parameters, const Walk *walk,
									 const Datum *key, const ErrorData *error);
extern Statement *repair_prepare(const char *text, Walk *walk, const char *scope,
								 const Parameters *parameters, RangeShape shape);

#endif							/* BACKFILL_DEFINITION_REPAIR_H */
