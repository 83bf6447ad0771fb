/*-------------------------------------------------------------------------
 *
 * account.c
 *	  A role for which there are connections to the database.
 *
 * All who are logged in as one role share its account, and so its connections and
 * what is read for one of them: they may see the same.  Whoever enters has been
 * let in by the server before, with a connection of its own (see login.c).
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "feed.h"
#include "job.h"
#include "memory.h"
#include "secret.h"

static Account *accounts = NULL;

static bool
is_of(const Account *account, const char *role)
{
	if (account->role == NULL || role == NULL)
		return account->role == role;
	return strcmp(account->role, role) == 0;
}

/*
 * The account of a role, for account_leave.  The password is the one that was
 * good last.  The role NULL is the one of the connection string.
 */
Account *
account_enter(const char *role, const char *password)
{
	Account    *account = accounts;

	while (account != NULL && !(is_of(account, role) && (account->password == NULL) == (password == NULL)))
		account = account->next;
	if (account == NULL)
	{
		account = memory_get(sizeof(Account));
		account->role = memory_copy(role);
		account->feed = feed_new(account);
		account->jobs = job_queue_new(account);
		account->next = accounts;
		accounts = account;
	}
	if (password != NULL)
	{
		secret_forget(account->password);
		account->password = secret_keep(password);
	}
	account->users++;
	return account;
}

/* The last one to leave closes the connections, and the password is wiped. */
void
account_leave(Account *account)
{
	Account   **place = &accounts;

	if (--account->users > 0)
		return;
	while (*place != account)
		place = &(*place)->next;
	*place = account->next;
	feed_free(account->feed);
	job_queue_free(account->jobs);
	secret_forget(account->password);
	free(account->role);
	free(account);
}
