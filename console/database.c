/*-------------------------------------------------------------------------
 *
 * database.c
 *	  A connection to the database that blocks nobody.
 *
 * libpq's asynchronous functions, driven by the loop.  A connection is of one
 * role and runs one statement at a time.  It is set up by one statement, which
 * finds the schema of the extension and makes it the search_path, with temporary
 * objects last; and, for a console that only reads, makes every transaction read
 * only.
 *
 * For a visitor the password is what counts: a connection for which the server
 * has not asked for it (trust, peer, a certificate) is refused, because then it
 * would prove nothing about who the visitor is.  No file of passwords is read.
 *
 * Names are looked up by libpq, which may block: give an address if that is slow.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "database.h"
#include "log.h"
#include "memory.h"
#include "options.h"

/* Milliseconds that a connection may take to come about. */
#define CONNECT_PATIENCE 10000

struct Database
{
	DatabaseOwner owner;
	DatabaseState state;
	DatabaseFacts facts;
	PGconn	   *conn;
	bool		visitor;		/* has to prove who it is by its password */
	LoopWatch	watch;
	LoopTimer	patience;
	int			timeout_s;		/* statement_timeout, seconds */
	DatabaseAnswer answer;
	void	   *answer_closure;
	PGresult   *result;			/* the first one of the statement at work */
	Text		notices;		/* JSON strings with commas between them */
	char	   *parsed;			/* the statement that the server has parsed last, or NULL */
};

static void be_ready(void *closure);

static const char *const setup_sql =
"SELECT set_config('search_path', quote_ident(n.nspname) || ', pg_temp', false),"
"       set_config('statement_timeout', $1, false),"
"       set_config('default_transaction_read_only', $2, false),"
"       set_config('lock_timeout', '5s', false),"
"       set_config('timezone', 'UTC', false),"
/* a second of compiling for a statement of milliseconds */
"       set_config('jit', 'off', false),"
"       to_regclass(quote_ident(n.nspname) || '.backfill_metrics') IS NOT NULL,"
"       to_regclass(quote_ident(n.nspname) || '.backfill_streams') IS NOT NULL,"
"       coalesce(has_schema_privilege(to_regnamespace('cron')::oid, 'USAGE') AND"
"                has_table_privilege(to_regclass('cron.job')::oid, 'SELECT'), false) "
"  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
" WHERE e.extname = 'backfill'";

/* A connection that is not yet made, for database_free. */
Database *
database_new(const DatabaseOwner *owner)
{
	Database   *database = memory_get(sizeof(Database));

	database->owner = *owner;
	database->watch.fd = -1;
	database->watch.ready = be_ready;
	database->watch.closure = database;
	database->patience.closure = database;
	text_init(&database->notices);
	return database;
}

/* Closes the connection and forgets what was asked; nobody is told. */
static void
close_connection(Database *database)
{
	loop_unwatch(&database->watch);
	loop_disarm(&database->patience);
	PQclear(database->result);
	database->result = NULL;
	if (database->conn != NULL)
		PQfinish(database->conn);
	database->conn = NULL;
	free(database->parsed);
	database->parsed = NULL;
	database->answer = NULL;
	database->state = DATABASE_CLOSED;
}

void
database_free(Database *database)
{
	if (database == NULL)
		return;
	close_connection(database);
	text_free(&database->notices);
	free(database);
}

DatabaseState
database_state(const Database *database)
{
	return database->state;
}

/* Good once it is connected. */
const DatabaseFacts *
database_facts(const Database *database)
{
	return &database->facts;
}

/* Closes it, tells who waits for an answer, and then the owner. */
static void
fail(Database *database, DatabaseFailure why, const char *message)
{
	DatabaseAnswer answer = database->state == DATABASE_BUSY ? database->answer : NULL;
	void	   *closure = database->answer_closure;
	char	   *copy = memory_copy(message);

	copy[strcspn(copy, "\n")] = '\0';
	close_connection(database);
	if (answer != NULL)
		answer(NULL, &database->notices, closure);
	database->owner.failed(database, why, copy, database->owner.closure);
	free(copy);
}

/* What an error while connecting means: libpq has the SQLSTATE in the text only. */
static DatabaseFailure
judge(const char *message)
{
	const char *code = NULL;

	/* "FATAL:  28P01: ...", whatever the word in the language of the server; the last one */
	for (const char *at = message; (at = strstr(at, ":  ")) != NULL; at++)
	{
		if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[8] == ':')
			code = at + 3;
	}
	if (code == NULL)
		return strstr(message, "no password supplied") ? DATABASE_REFUSED : DATABASE_AWAY;
	if (strncmp(code, "28", 2) == 0 || strncmp(code, "42501", 5) == 0)
		return DATABASE_REFUSED;
	if (strncmp(code, "3D", 2) == 0)
		return DATABASE_UNFIT;
	return DATABASE_AWAY;
}

/* The patience of connecting and setting up is at its end, or it failed at once. */
static void
run_out_of_patience(void *closure)
{
	Database   *database = closure;

	if (database->state == DATABASE_CONNECTING && PQstatus(database->conn) == CONNECTION_BAD)
		fail(database, judge(PQerrorMessage(database->conn)), PQerrorMessage(database->conn));
	else
		fail(database, DATABASE_AWAY, "the server takes too long to answer");
}

/* Keeps what the server says besides, such as a WARNING. */
static void
keep_notice(void *closure, const PGresult *result)
{
	Database   *database = closure;
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	if (message == NULL || database->notices.length > 10000)
		return;
	if (database->notices.length > 0)
		text_add(&database->notices, ",");
	text_json(&database->notices, message);
}

/*
 * Begins to connect, as the role with the password; without a role as the
 * connection string says.  timeout_s is the longest that a statement may take.
 */
void
database_connect(Database *database, const char *role, const char *password, int timeout_s)
{
	const char *keys[16];
	const char *values[16];
	int			n = 0;

#define GIVE(key, value) (keys[n] = (key), values[n] = (value), n++)
	if (options.conninfo != NULL)
		GIVE("dbname", options.conninfo);
	if (role != NULL)
		GIVE("user", role);
	if (password != NULL)
	{
		GIVE("password", password);
		GIVE("passfile", "/dev/null");
	}
	GIVE("application_name", "backfill-console");
	GIVE("client_encoding", "UTF8");
	GIVE("tcp_user_timeout", "15000");
	keys[n] = values[n] = NULL;
#undef GIVE

	close_connection(database);
	database->visitor = password != NULL;
	database->timeout_s = timeout_s;
	database->state = DATABASE_CONNECTING;
	database->conn = PQconnectStartParams(keys, values, 1);
	if (database->conn == NULL)
		log_die("out of memory");
	PQsetErrorVerbosity(database->conn, PQERRORS_VERBOSE);
	PQsetNoticeReceiver(database->conn, keep_notice, database);
	database->patience.fire = run_out_of_patience;
	loop_arm(&database->patience, clock_now() + CONNECT_PATIENCE);
	if (PQstatus(database->conn) == CONNECTION_BAD || PQsocket(database->conn) < 0)
	{
		/* the owner has not got us yet: tell it from the loop */
		loop_arm(&database->patience, clock_now());
		return;
	}
	loop_watch(&database->watch, PQsocket(database->conn), false, true);
}

/* The statement that sets it up has been answered. */
static void
finish_setup(PGresult *result, const Text *notices, void *closure)
{
	Database   *database = closure;
	DatabaseFacts *facts = &database->facts;

	(void) notices;
	if (result == NULL)
		return;
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
	{
		char	   *message = memory_copy(PQresultStatus(result) == PGRES_TUPLES_OK ?
										  "the extension backfill is not installed in this database" :
										  PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));

		PQclear(result);
		fail(database, DATABASE_UNFIT, message);
		free(message);
		return;
	}
	facts->metrics = PQgetvalue(result, 0, 6)[0] == 't';
	facts->streams = PQgetvalue(result, 0, 7)[0] == 't';
	facts->cron = PQgetvalue(result, 0, 8)[0] == 't';
	PQclear(result);
	loop_disarm(&database->patience);
	database->owner.connected(database, database->owner.closure);
}

/* The connection stands: set it up. */
static void
set_up(Database *database)
{
	char		timeout[16];
	const char *values[2] = {timeout, options.read_only ? "on" : "off"};

	snprintf(timeout, sizeof(timeout), "%ds", database->timeout_s);
	if (database->visitor && !PQconnectionUsedPassword(database->conn))
	{
		fail(database, DATABASE_REFUSED,
			 "the server has not asked for a password, so it does not prove who the visitor is");
		return;
	}
	PQsetErrorVerbosity(database->conn, PQERRORS_DEFAULT);
	if (PQsetnonblocking(database->conn, 1) != 0)
	{
		fail(database, DATABASE_AWAY, PQerrorMessage(database->conn));
		return;
	}
	database->state = DATABASE_READY;
	database_send(database, setup_sql, 2, values, finish_setup, database);
}

/* Goes on with connecting. */
static void
go_on_connecting(Database *database)
{
	PostgresPollingStatusType status;

	/* libpq may close the socket and open another one */
	loop_unwatch(&database->watch);
	status = PQconnectPoll(database->conn);
	switch (status)
	{
		case PGRES_POLLING_READING:
		case PGRES_POLLING_WRITING:
			loop_watch(&database->watch, PQsocket(database->conn),
					   status == PGRES_POLLING_READING, status == PGRES_POLLING_WRITING);
			break;
		case PGRES_POLLING_OK:
			set_up(database);
			break;
		default:
			fail(database, judge(PQerrorMessage(database->conn)), PQerrorMessage(database->conn));
	}
}

/* Sends what is left to be sent, and watches for the rest. */
static bool
flush(Database *database)
{
	int			left = PQflush(database->conn);

	if (left < 0)
		return false;
	loop_watch(&database->watch, PQsocket(database->conn), true, left > 0);
	return true;
}

/* Sends a statement; what the server has parsed just before, and planned, is used again. */
static bool
send_text(Database *database, const char *sql, int n, const char *const *values)
{
	if (database->parsed != NULL && strcmp(database->parsed, sql) == 0)
		return PQsendQueryPrepared(database->conn, "", n, values, NULL, NULL, 0);
	free(database->parsed);
	database->parsed = memory_copy(sql);
	return PQsendQueryParams(database->conn, sql, n, NULL, values, NULL, NULL, 0);
}

/*
 * Runs one statement with parameters, given as text.  The connection has to be
 * READY.  "answer" is called once, later; if the connection turns out to be lost
 * already, "failed" of the owner is called from the loop.
 */
void
database_send(Database *database, const char *sql, int n, const char *const *values,
			  DatabaseAnswer answer, void *closure)
{
	database->state = DATABASE_BUSY;
	database->answer = answer;
	database->answer_closure = closure;
	database->notices.length = 0;
	database->notices.data[0] = '\0';
	if (!send_text(database, sql, n, values) || !flush(database))
	{
		/* not from here: the caller is not prepared for it */
		database->patience.fire = be_ready;
		loop_arm(&database->patience, clock_now());
	}
}

/* The statement is done: gives its result away. */
static void
hand_over(Database *database)
{
	PGresult   *result = database->result;
	DatabaseAnswer answer = database->answer;

	database->result = NULL;
	database->answer = NULL;
	database->state = DATABASE_READY;
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		/* it may not have come as far as being parsed */
		free(database->parsed);
		database->parsed = NULL;
	}
	if (answer != NULL)
		answer(result, &database->notices, database->answer_closure);
	else
		PQclear(result);
}

/* Something has happened to the socket. */
static void
be_ready(void *closure)
{
	Database   *database = closure;

	if (database->state == DATABASE_CONNECTING)
	{
		go_on_connecting(database);
		return;
	}
	if (database->conn == NULL)
		return;
	if (!PQconsumeInput(database->conn) || PQstatus(database->conn) == CONNECTION_BAD ||
		!flush(database))
	{
		fail(database, DATABASE_AWAY, PQerrorMessage(database->conn));
		return;
	}
	while (database->state == DATABASE_BUSY && !PQisBusy(database->conn))
	{
		PGresult   *result = PQgetResult(database->conn);

		if (result == NULL)
		{
			/* the answer may free the connection */
			if (PQstatus(database->conn) == CONNECTION_BAD)
				fail(database, DATABASE_AWAY, PQerrorMessage(database->conn));
			else
				hand_over(database);
			return;
		}
		if (database->result == NULL)
			database->result = result;
		else
			PQclear(result);
	}
}
