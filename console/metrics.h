/*-------------------------------------------------------------------------
 *
 * metrics.h
 *	  The text that Prometheus reads.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_METRICS_H
#define CONSOLE_METRICS_H

#include "text.h"

extern void metrics_write(const char *json, Text *out);

#endif							/* CONSOLE_METRICS_H */
