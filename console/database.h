/*-------------------------------------------------------------------------
 *
 * database.h
 *	  A connection to the database that blocks nobody.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_DATABASE_H
#define CONSOLE_DATABASE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "text.h"

typedef enum DatabaseState
{
	DATABASE_CLOSED,
	DATABASE_CONNECTING,
	DATABASE_READY,
	DATABASE_BUSY
} DatabaseState;

/* Why there is no connection. */
typedef enum DatabaseFailure
{
	DATABASE_AWAY,				/* no server, or none that takes us now */
	DATABASE_REFUSED,			/* the role or the password is wrong */
	DATABASE_UNFIT				/* no such database, or no backfill in it */
} DatabaseFailure;

/* What is there in this database besides the views that always are. */
typedef struct DatabaseFacts
{
	bool		metrics;		/* view backfill_metrics */
	bool		streams;		/* view backfill_streams */
	bool		cron;			/* pg_cron, and the role may read its jobs */
} DatabaseFacts;

typedef struct Database Database;

/*
 * What a connection tells its owner.  "connected" comes once after
 * database_connect; or "failed", once, from any state, and the connection is
 * closed then.  An owner may free the connection in these.
 */
typedef struct DatabaseOwner
{
	void		(*connected) (Database *database, void *closure);
	void		(*failed) (Database *database, DatabaseFailure why, const char *message, void *closure);
	void	   *closure;
} DatabaseOwner;

/*
 * What becomes of a statement: its result, or the error that the server has
 * raised.  The result is the callee's to clear.  When the connection is lost,
 * result is NULL and "failed" follows.
 */
typedef void (*DatabaseAnswer) (PGresult *result, const Text *notices, void *closure);

extern Database *database_new(const DatabaseOwner *owner);
extern void database_free(Database *database);
extern void database_connect(Database *database, const char *role, const char *password, int timeout_s);
extern DatabaseState database_state(const Database *database);
extern const DatabaseFacts *database_facts(const Database *database);
extern void database_send(Database *database, const char *sql, int n, const char *const *values,
						  DatabaseAnswer answer, void *closure);

#endif							/* CONSOLE_DATABASE_H */
