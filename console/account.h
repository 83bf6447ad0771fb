/*-------------------------------------------------------------------------
 *
 * account.h
 *	  A role for which there are connections to the database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_ACCOUNT_H
#define CONSOLE_ACCOUNT_H

#include <stdbool.h>

struct Feed;
struct JobQueue;

typedef struct Account
{
	char	   *role;			/* NULL: that of the connection string */
	char	   *password;		/* see secret.c; NULL: that of the connection string */
	int			users;			/* sessions, or those who keep it for ever */
	struct Feed *feed;			/* what is read */
	struct JobQueue *jobs;		/* what is done */
	struct Account *next;
} Account;

extern Account *account_enter(const char *role, const char *password);
extern void account_leave(Account *account);

#endif							/* CONSOLE_ACCOUNT_H */
