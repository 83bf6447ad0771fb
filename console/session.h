/*-------------------------------------------------------------------------
 *
 * session.h
 *	  Who is logged in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_SESSION_H
#define CONSOLE_SESSION_H

#include <stdint.h>

#include "account.h"
#include "secret.h"

typedef struct Session
{
	char		token[SECRET_TOKEN];	/* the cookie */
	char		csrf[SECRET_TOKEN];
	Account    *account;
	int64_t		began;
	int64_t		used;
	struct Session *next;
} Session;

extern Session *session_begin(const char *role, const char *password);
extern Session *session_find(const char *token);
extern void session_end(Session *session);
extern void session_end_account(const Account *account);
extern void session_stop(void);

#endif							/* CONSOLE_SESSION_H */
