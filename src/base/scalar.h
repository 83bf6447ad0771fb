/*-------------------------------------------------------------------------
 *
 * scalar.h
 *	  Scalars in JSON as text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_SCALAR_H
#define BACKFILL_BASE_SCALAR_H

#include "utils/jsonb.h"

extern char *scalar_text(JsonbValue *value);

#endif							/* BACKFILL_BASE_SCALAR_H */
