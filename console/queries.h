/*-------------------------------------------------------------------------
 *
 * queries.h
 *	  The SQL behind the screens.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_QUERIES_H
#define CONSOLE_QUERIES_H

#include "database.h"

extern const char *queries_runs(const DatabaseFacts *facts);
extern const char *queries_run(const DatabaseFacts *facts);
extern const char *queries_batches(const DatabaseFacts *facts);
extern const char *queries_errors(const DatabaseFacts *facts);
extern const char *queries_events(const DatabaseFacts *facts);
extern const char *queries_definitions(const DatabaseFacts *facts);
extern const char *queries_definition(const DatabaseFacts *facts);
extern const char *queries_explain(const DatabaseFacts *facts);
extern const char *queries_health(const DatabaseFacts *facts);
extern const char *queries_metrics(const DatabaseFacts *facts);

#endif							/* CONSOLE_QUERIES_H */
