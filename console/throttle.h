/*-------------------------------------------------------------------------
 *
 * throttle.h
 *	  Logins that fail make the next ones wait.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_THROTTLE_H
#define CONSOLE_THROTTLE_H

#include <stdint.h>

extern int64_t throttle_wait(const char *role, const char *address);
extern void throttle_failed(const char *role, const char *address);
extern void throttle_succeeded(const char *role, const char *address);

#endif							/* CONSOLE_THROTTLE_H */
