/*-------------------------------------------------------------------------
 *
 * server.h
 *	  The HTTP server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_SERVER_H
#define CONSOLE_SERVER_H

#include <stdint.h>

struct MHD_Connection;

extern void server_start(void);
extern int64_t server_before_wait(void);
extern void server_resume(struct MHD_Connection *connection);
extern void server_has_request(struct MHD_Connection *connection);
extern void server_stop(void);

#endif							/* CONSOLE_SERVER_H */
