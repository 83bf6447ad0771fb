/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  Whether a request may come from where it comes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_GUARD_H
#define CONSOLE_GUARD_H

#include <stdbool.h>
#include <stddef.h>

struct MHD_Connection;

/* Characters of the address of a client, and the zero. */
#define GUARD_ADDRESS 64

/* Bytes of a body. */
#define GUARD_BODY 65536

extern void guard_allow(const char *host);
extern bool guard_check(struct MHD_Connection *connection, bool changes, int *status, const char **why,
						size_t *length);
extern bool guard_is_own_fetch(struct MHD_Connection *connection);
extern void guard_address(struct MHD_Connection *connection, char address[GUARD_ADDRESS]);

#endif							/* CONSOLE_GUARD_H */
