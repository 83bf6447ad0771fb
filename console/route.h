/*-------------------------------------------------------------------------
 *
 * route.h
 *	  Who answers which path.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_ROUTE_H
#define CONSOLE_ROUTE_H

#include "request.h"

extern void route_init(void);
extern void route_stop(void);
extern void route_request(Request *request);

#endif							/* CONSOLE_ROUTE_H */
