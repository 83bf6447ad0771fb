/*-------------------------------------------------------------------------
 *
 * serverparams.c
 *	  The parameters of the server that a run sets for its statement.
 *
 * The setting "set" is an object of their names and values.  What is refused
 * here is what would break a promise of ours, or has a setting or another place
 * of its own.  Whether the server has a parameter, takes the value, and lets the
 * owner set it, is seen by setting it: with the rights of the current user, who
 * is the owner wherever that is done.  So a right that was revoked since is
 * missed as soon as it is needed.
 *
 * Who sets them for a while does so in a nest level of parameters, which takes
 * them away again, whatever happens.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"

#include "base/limit.h"
#include "base/scalar.h"
#include "settings/serverparams.h"

/* Names are no longer than that: a prefix, a dot, a name. */
#define MAX_NAME	(NAMEDATALEN * 2)

/* A parameter that cannot be given. */
typedef struct Refusal
{
	const char *name;			/* or how it begins */
	bool		is_prefix;
	const char *detail;
	const char *hint;			/* or NULL */
} Refusal;

static const Refusal refusals[] = {
	{"search_path", false,
		"The path is part of the definition: it is that of the session which calls backfill_define.",
	"SET search_path, then call backfill_define."},
	{"role", false,
		"The statement runs as the owner of the definition.",
	"Call backfill_define as the role that is to be the owner."},
	{"session_authorization", false,
		"The statement runs as the owner of the definition.",
	"Call backfill_define as the role that is to be the owner."},
	{"transaction_", true,
		"How the transaction of a batch runs follows from the statement.", NULL},
	{"default_transaction_", true,
		"How the transaction of a batch runs follows from the statement.", NULL},
	{"statement_timeout", false,
		"It would cancel what is not the statement.",
	"Use the setting \"statement_timeout\"."},
	{"lock_timeout", false,
		"A batch must not stand in the way for longer than its setting says.",
	"Use the setting \"lock_timeout\"."},
	{"idle_in_transaction_session_timeout", false,
		"A worker has no client to wait for in a transaction.", NULL},
	{"synchronous_commit", false,
		"When the commit of a batch returns is a setting of the run.",
	"Use the setting \"synchronous_commit\"."},
	{"client_encoding", false,
		"A worker has no client.", NULL},
	{"application_name", false,
		"It tells in pg_stat_activity which run a session belongs to.", NULL},
	{"exit_on_error", false,
		"An error would end the worker before it is put down.", NULL},
	{"backfill.", true,
		"The parameters of backfill hold for the server.", NULL}
};

/* ---- reading ---- */

static void
check_name(const char *name)
{
	if (strlen(name) > MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a name of a parameter in backfill setting \"set\" is too long"),
				 errdetail("It has %zu bytes; the limit is %d.", strlen(name), MAX_NAME)));
	for (int i = 0; i < lengthof(refusals); i++)
	{
		const Refusal *refusal = &refusals[i];

		if (refusal->is_prefix ?
			pg_strncasecmp(name, refusal->name, strlen(refusal->name)) != 0 :
			pg_strcasecmp(name, refusal->name) != 0)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill setting \"set\" cannot give parameter \"%s\"", name),
				 errdetail("%s", refusal->detail),
				 refusal->hint ? errhint("%s", refusal->hint) : 0));
	}
}

/* The value as it would stand in SET. */
static char *
value_text(const char *name, JsonbValue *value)
{
	char	   *text = scalar_text(value);

	if (text == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for parameter \"%s\" in backfill setting \"set\"", name),
				 errdetail("The value must be a string, a number, true or false."),
				 errhint("Leave the parameter out where the server's value is to hold.")));
	return text;
}

/* Whether it is among them; the server does not tell names by their case. */
bool
serverparams_gives(const List *given, const char *name)
{
	ListCell   *lc;

	foreach(lc, given)
	{
		if (pg_strcasecmp(((const ServerParameter *) lfirst(lc))->name, name) == 0)
			return true;
	}
	return false;
}

/* Read the object.  Neither the server nor the rights of anybody are asked. */
List *
serverparams_parse(JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	v;
	ServerParameter *parameter = NULL;
	List	   *result = NIL;

	limit_check_number("parameters in backfill setting \"set\"", JsonContainerSize(object),
					   LIMIT_SERVER_PARAMETERS);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			parameter = palloc0(sizeof(ServerParameter));
			parameter->name = pnstrdup(v.val.string.val, v.val.string.len);
			check_name(parameter->name);
			if (serverparams_gives(result, parameter->name))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("backfill setting \"set\" gives parameter \"%s\" twice",
								parameter->name)));
		}
		else if (token == WJB_VALUE)
		{
			parameter->value = value_text(parameter->name, &v);
			result = lappend(result, parameter);
		}
	}
	return result;
}

/* ---- setting ---- */

static void
parameter_error_callback(void *arg)
{
	const ServerParameter *parameter = *(const ServerParameter **) arg;

	errcontext("parameter \"%s\" in backfill setting \"set\"", parameter->name);
}

/* As the current user would with SET.  Raises what is wrong with one of them. */
static void
set_all(const List *given, GucAction action)
{
	ErrorContextCallback callback;
	const ServerParameter *parameter = NULL;
	ListCell   *lc;

	if (given == NIL)
		return;
	callback.callback = parameter_error_callback;
	callback.arg = &parameter;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	foreach(lc, given)
	{
		parameter = lfirst(lc);
		(void) set_config_option(parameter->name, parameter->value,
								 superuser() ? PGC_SUSET : PGC_USERSET, PGC_S_SESSION,
								 action, true, 0, false);
	}
	error_context_stack = callback.previous;
}

/*
 * Set them until the end of a nest level, which is returned for
 * AtEOXact_GUC(false, ...).  Needs a transaction, as all that sets them.
 */
int
serverparams_enter(const List *given)
{
	int			nest = NewGUCNestLevel();

	set_all(given, GUC_ACTION_SAVE);
	return nest;
}

/* The same in the nest level that there is. */
void
serverparams_apply(const List *given)
{
	set_all(given, GUC_ACTION_SAVE);
}

/* Set them for the session, beyond the end of the transaction. */
void
serverparams_set(const List *given)
{
	set_all(given, GUC_ACTION_SET);
}

/*
 * As RESET of each.  That takes no rights, so it needs no transaction in which
 * to look them up.
 */
void
serverparams_reset(const List *given)
{
	ListCell   *lc;

	foreach(lc, given)
		(void) set_config_option(((const ServerParameter *) lfirst(lc))->name, NULL, PGC_SUSET,
								 PGC_S_SESSION, GUC_ACTION_SET, true, 0, false);
}

/* ---- comparing ---- */

/* A copy in the current memory context. */
List *
serverparams_copy(const List *given)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, given)
	{
		const ServerParameter *parameter = lfirst(lc);
		ServerParameter *copy = palloc(sizeof(ServerParameter));

		copy->name = pstrdup(parameter->name);
		copy->value = pstrdup(parameter->value);
		result = lappend(result, copy);
	}
	return result;
}

/* Whether both set the same; jsonb keeps an order of its own. */
bool
serverparams_equal(const List *a, const List *b)
{
	ListCell   *lc,
			   *lc2;

	if (list_length(a) != list_length(b))
		return false;
	forboth(lc, a, lc2, b)
	{
		const ServerParameter *first = lfirst(lc);
		const ServerParameter *second = lfirst(lc2);

		if (strcmp(first->name, second->name) != 0 || strcmp(first->value, second->value) != 0)
			return false;
	}
	return true;
}
