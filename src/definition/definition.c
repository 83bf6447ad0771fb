/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  Definitions of backfills: found, checked, bound.
 *
 * A definition is checked as a whole before anything of it is stored: the key,
 * the settings, the statement and the scope are parsed, analysed and planned,
 * and the executor is asked whether the owner has the rights, so that mistakes
 * show where the user made them and not at night in a worker.  Of a generic one only
 * references and syntax can be checked then; the rest is, in the same way, when a run
 * gives it a target and it is bound (names.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/owner.h"
#include "definition/definition.h"
#include "definition/foresee.h"
#include "definition/names.h"
#include "definition/repair.h"
#include "definition/source.h"
#include "definition/stage.h"
#include "definition/streamlist.h"
#include "settings/parameters.h"
#include "settings/serverparams.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "store/copy.h"
#include "store/definition.h"
#include "store/run.h"
#include "store/store.h"
#include "walk/key.h"
#include "walk/statement.h"
#include "walk/walk.h"

/* Raises an error unless the current user has the rights of the owner. */
void
definition_check_role(Oid owner, const char *kind, const char *name)
{
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for backfill %s %s", kind, name),
				 errdetail("Only roles that have the rights of its owner may use it.")));
}

/* Raises an error unless the current user may have the owner run his code. */
void
definition_check_replace(const DefinitionInfo *def)
{
	definition_check_role(def->owner, "definition", quote_identifier(def->name));
	if (!compat_may_act_as(GetUserId(), def->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to replace backfill definition %s",
						quote_identifier(def->name)),
				 errdetail("Only roles that may SET ROLE to its owner may replace it.")));
}

/*
 * The definition with that name, which the current user may use.  Raises an
 * error otherwise.  The caller is within a store session.
 */
DefinitionInfo *
definition_get(StoreSession *session, const char *name)
{
	DefinitionInfo *def = store_load_definition(session, name);

	if (def == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("backfill definition \"%s\" does not exist", name),
				 errhint("The view backfill_definitions shows the definitions you may use.")));
	return def;
}

/*
 * Have the definition work on that table, or its own if that is InvalidOid.  A generic
 * one has none.  Raises an error, too, unless the current user may have the owner run
 * his code: what the table has for triggers, defaults and checks becomes that.
 */
void
definition_take_target(DefinitionInfo *def, Oid target)
{
	if (!def->generic && !OidIsValid(target))
		return;
	if (!def->generic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill definition \"%s\" has a target of its own", def->name),
				 errhint("Only a definition that was declared \"generic\" is given one.")));
	if (!OidIsValid(target))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("backfill definition \"%s\" needs a target", def->name),
				 errdetail("It is generic."),
				 errhint("Give the table in \"target\", for example target => 'public.orders'.")));
	if (!compat_may_act_as(GetUserId(), def->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to give backfill definition %s a target",
						quote_identifier(def->name)),
				 errdetail("Only roles that may SET ROLE to its owner may choose the table.")));
	def->target = target;
}

/* The first argument of an SQL function, the name of a definition. */
char *
definition_name_arg(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the name of a backfill definition cannot be null")));
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* What is read of a batch: the statement, or, where clients do the work, its rows. */
const char *
definition_statement(const DefinitionInfo *def)
{
	return def->statement ? def->statement : "SELECT * FROM batch";
}

/* The way of a definition or a run: along its target, or through the pages of its source. */
Walk *
definition_walk(Oid target, const char *key, const SourceInfo *source,
				const RunSettings *settings)
{
	return source->function ? walk_open_source(target) : walk_open(target, key, settings);
}

/* The walk of the definition's target under the settings, checked. */
static Walk *
check_walk(const DefinitionInfo *def, Jsonb *given)
{
	RunSettings settings;
	Walk	   *walk;

	settings_resolve(given, &settings);
	settings_check_together(given, def->scope);
	source_check_definition(def, given);
	walk = definition_walk(def->target, def->key, &def->source, &settings);
	if (def->statement)
		walk_check_is_here(walk);
	key_check_bounds(walk, settings.from, settings.to);
	return walk;
}

/* A probe among the settings, which is not run now. */
static void
check_probe(Jsonb *given)
{
	RunSettings settings;

	settings_resolve(given, &settings);
	if (settings.probe)
		foresee_probe(settings.probe);
}

/* A repair about to be checked. */
typedef struct CandidateRepair
{
	const char *text;
	Walk	   *walk;
	const char *scope;
	const Parameters *parameters;
} CandidateRepair;

/* The argument is a CandidateRepair. */
static void
check_repair_text(void *arg)
{
	const CandidateRepair *repair = (const CandidateRepair *) arg;

	statement_check(repair_prepare(repair->text, repair->walk, repair->scope,
								   repair->parameters, RANGE_AFTER));
}

/*
 * A repair among the settings, likewise: what is wrong with it shows now.  What is
 * missing may be made, if the run is to be prepared.
 */
static void
check_repair(Jsonb *given, Walk *walk, const char *scope, const Parameters *parameters,
			 bool prepared)
{
	RunSettings settings;
	CandidateRepair repair = {NULL, walk, scope, parameters};

	settings_resolve(given, &settings);
	repair.text = settings.repair;
	if (repair.text && prepared)
		foresee_statement("repair", check_repair_text, &repair);
	else if (repair.text)
		check_repair_text(&repair);
}

/* Set the server parameters among the settings; returns the nest level. */
static int
enter_parameters(Jsonb *given)
{
	RunSettings settings;

	settings_resolve(given, &settings);
	return serverparams_enter(settings.set);
}

/*
 * What is run once, NULL for nothing, likewise; the stages in their order.  Returns
 * whether there is any statement in it.
 */
static bool
check_stage(Foresight *foresight, Stage stage, const char *text)
{
	List	   *raws = text ? stage_parse(stage, text) : NIL;

	foresee_stage(foresight, stage, text, raws);
	return raws != NIL;
}

/* A statement about to be checked. */
typedef struct Candidate
{
	const DefinitionInfo *def;
	Walk	   *walk;
	Parameters *parameters;
} Candidate;

/* The argument is a Candidate.  Where clients do the work, they read the batch at least. */
static void
check_statement(void *arg)
{
	const Candidate *candidate = (const Candidate *) arg;

	statement_check(statement_prepare(definition_statement(candidate->def), candidate->walk,
									  candidate->def->scope, candidate->parameters, RANGE_AFTER));
}

/* Settings that say something of a statement, where there is none, or the other way round. */
static void
check_without_statement(const char *statement, Jsonb *given)
{
	RunSettings settings;

	settings_resolve(given, &settings);
	if (statement && settings.ledger)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the setting \"ledger\" cannot be on with a statement"),
				 errdetail("A ledger is for what clients do outside of the server; a statement and its record are one transaction."),
				 errhint("Define the backfill with the statement null.")));
	if (statement)
		return;
	if (settings_gives(given, "outside") && !settings.outside)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the setting \"outside\" cannot be off without a statement"),
				 errdetail("Nobody would do the work.")));
	if (settings.repair)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the setting \"repair\" needs a statement"),
				 errdetail("A repair is run before the statement is tried again, and clients do the work of this backfill.")));
}

/* A ledger knows rows by their keys: one row for each, which stays where it is. */
static void
check_ledger(const Walk *walk, Jsonb *given)
{
	RunSettings settings;

	settings_resolve(given, &settings);
	if (settings.ledger && (walk->may_repeat || walk->by_page || walk->distinct || walk->has_nulls))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the setting \"ledger\" needs a key that is unique and not null"),
				 errdetail("A ledger knows each row by its key."),
				 errhint("Name such an index in \"key\".")));
}

/* What is shared by a column is walked along an index that begins with it. */
static void
check_shares(const Walk *walk, Jsonb *given)
{
	RunSettings settings;
	StringInfoData columns;

	settings_resolve(given, &settings);
	if (settings.share_by == NULL)
		return;
	if (walk->is_shared && !walk->distinct)
		return;
	initStringInfo(&columns);
	appendStringInfoString(&columns, get_attnum(walk->target, settings.share_by) == InvalidAttrNumber ?
						   psprintf("(%s)", settings.share_by) : quote_identifier(settings.share_by));
	for (int i = 0; i < walk->nkeys && !walk->by_page; i++)
	{
		if (strcmp(walk->columns[i].name, settings.share_by) != 0)
			appendStringInfo(&columns, ", %s", quote_identifier(walk->columns[i].name));
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the setting \"share_by\" needs a key that begins with %s", settings.share_by),
			 errhint("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s), and name that index in \"key\".",
					 walk->target_name, columns.data)));
}

/* All but the probe, of a definition that has its target; where partitions are streams, for one of them. */
static void
check_texts(const DefinitionInfo *whole, Jsonb *settings)
{
	const DefinitionInfo *def = streamlist_sample(whole);
	Candidate	candidate = {def, check_walk(def, settings)};
	Foresight  *foresight = foresee_begin();
	bool		prepared;
	int			nest;

	streamlist_check_settings(whole, settings);
	check_without_statement(def->statement, settings);
	check_ledger(candidate.walk, settings);
	check_shares(candidate.walk, settings);
	parameters_check(def->parameters);

	/* what the statement says may depend on them */
	nest = enter_parameters(settings);
	candidate.parameters = parameters_load(def->parameters, NULL, NULL);
	prepared = check_stage(foresight, STAGE_PREPARE, def->stages[STAGE_PREPARE]);
	if (prepared)
		foresee_statement("statement", check_statement, &candidate);
	else
		check_statement(&candidate);
	check_repair(settings, candidate.walk, def->scope, candidate.parameters, prepared);
	(void) check_stage(foresight, STAGE_FINISH, def->stages[STAGE_FINISH]);
	AtEOXact_GUC(false, nest);
}

/* As the owner: the argument is the definition. */
static void
check_all(void *arg)
{
	const DefinitionInfo *def = (const DefinitionInfo *) arg;

	if (def->generic)
	{
		settings_check_together(def->settings, def->scope);
		source_check_definition(def, def->settings);
		check_without_statement(def->statement, def->settings);
		parameters_check(def->parameters);
		names_check(def);
		AtEOXact_GUC(false, enter_parameters(def->settings));
	}
	else
	{
		check_texts(def, def->settings);
		streamlist_check(def);
	}
	check_probe(def->settings);
}

/*
 * Check everything of the definition: the walk, the parameters, the statement,
 * which is parsed, analysed and planned; all as the owner, whoever calls.  What
 * is made is in the memory of the function call and goes away with it.  A generic one
 * has no walk yet, and its statement and scope are parsed and no more.
 */
void
definition_check(const DefinitionInfo *def)
{
	owner_look(def->owner, def->search_path, check_all, unconstify(DefinitionInfo *, def));
}

/* As the owner: the argument is the definition. */
static void
check_source(void *arg)
{
	const DefinitionInfo *def = (const DefinitionInfo *) arg;
	SourceFacts facts = {
		.name = def->name,
		.since = DT_NOBEGIN,
		.until = DT_NOBEGIN,
		.started_at = DT_NOBEGIN
	};

	source_check_ready(&def->source, def->owner, &facts);
}

/* Have the source's check, if there is one, look now whether the source is ready; as the owner. */
void
definition_check_source(const DefinitionInfo *def)
{
	owner_look(def->owner, def->search_path, check_source, unconstify(DefinitionInfo *, def));
}

/* What is to become of a run: NULL for what stays. */
typedef struct Change
{
	Jsonb	   *settings;
	const char *finish;
	bool		has_statements;
} Change;

/* As the owner: the argument is a Change. */
static void
check_change(void *arg)
{
	Change	   *change = (Change *) arg;

	if (change->settings)
	{
		check_probe(change->settings);
		AtEOXact_GUC(false, enter_parameters(change->settings));
	}
	if (change->finish)
		change->has_statements = check_stage(foresee_begin(), STAGE_FINISH, change->finish);
}

/*
 * The same for settings, which are sound, or another last step, that a run of the owner
 * is given; NULL for none.  Returns whether there is any statement in the last step.
 * Raises an error, too, unless the current user may have the owner run his code.
 */
bool
definition_check_change(Oid owner, const char *search_path, Jsonb *settings,
						const char *finish)
{
	Change		change = {settings, finish};

	if (!finish && !settings_gives(settings, "probe") && !settings_gives(settings, "repair") &&
		!settings_gives(settings, "set"))
		return false;
	if (!compat_may_act_as(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to have role \"%s\" run something else",
						GetUserNameFromId(owner, false)),
				 errdetail("Only roles that may SET ROLE to the owner of a run may give it \"finish\", or the settings \"probe\", \"repair\" and \"set\".")));
	owner_look(owner, search_path, check_change, &change);
	return change.has_statements;
}

/* A run that is given another repair. */
typedef struct RepairChange
{
	const RunInfo *run;
	Jsonb	   *given;
} RepairChange;

/* As the owner: the argument is a RepairChange. */
static void
check_repair_change(void *arg)
{
	const RunInfo *run = ((RepairChange *) arg)->run;
	Jsonb	   *given = settings_merge(run->settings, ((RepairChange *) arg)->given);
	RunSettings settings;
	Walk	   *walk;
	int			nest = enter_parameters(given);

	check_without_statement(run->statement, given);
	settings_resolve(given, &settings);
	walk = definition_walk(run->target, run->key, &run->source, &settings);
	check_repair(given, walk, run->scope, parameters_load(run->parameter_types, NULL, NULL),
				 store_stage_is_left(run, STAGE_PREPARE));
	AtEOXact_GUC(false, nest);
}

/*
 * Raises an error if the run is given a repair, among settings that are sound, which
 * is not.  That the current user may do so is checked by definition_check_change.
 */
void
definition_check_repair(const RunInfo *run, Jsonb *given)
{
	RepairChange change = {run, given};

	if (settings_gives(given, "repair"))
		owner_look(run->owner, run->search_path, check_repair_change, &change);
}

/* What definition_bind was called with, and its results. */
typedef struct Binding
{
	DefinitionInfo *def;
	Jsonb	   *settings;
	Jsonb	   *parameters;
	bool		is_prepared;
	Jsonb	   *values;
	Jsonb	   *types;
} Binding;

/* As the owner: the argument is a Binding. */
static void
bind_values(void *arg)
{
	Binding    *binding = (Binding *) arg;

	binding->values = parameters_bind(binding->def->parameters, binding->parameters);
}

/* The same; a generic definition is bound to the names among the values. */
static void
bind_names(void *arg)
{
	Binding    *binding = (Binding *) arg;

	bind_values(binding);
	if (binding->def->generic)
		names_bind(binding->def, parameters_load(binding->def->parameters, binding->values, NULL),
				   false);
}

/*
 * The values that a run of the definition has with these parameters.  A generic one,
 * which has been given its target, is bound to the names among them.  As the owner,
 * whoever calls; what is named may be gone.
 */
Jsonb *
definition_values(DefinitionInfo *def, Jsonb *parameters)
{
	Binding		binding = {def, NULL, parameters};

	owner_look(def->owner, def->search_path, bind_names, &binding);
	return binding.values;
}

/* As the owner: the argument is a Binding. */
static void
bind_parameters(void *arg)
{
	Binding    *binding = (Binding *) arg;
	DefinitionInfo *def = binding->def;

	int			nest;

	check_without_statement(def->statement, binding->settings);
	if (!def->generic)
	{
		const DefinitionInfo *sample = streamlist_sample(def);
		Walk	   *walk = check_walk(sample, binding->settings);

		streamlist_check_settings(def, binding->settings);
		check_ledger(walk, binding->settings);
		check_shares(walk, binding->settings);

		/* the definition's, too: a right may have been revoked since */
		nest = enter_parameters(binding->settings);
		check_repair(binding->settings, walk, def->scope,
					 parameters_load(def->parameters, NULL, NULL),
					 !binding->is_prepared && stage_has_statements(STAGE_PREPARE, def->stages[STAGE_PREPARE]));
		AtEOXact_GUC(false, nest);
	}
	else
		AtEOXact_GUC(false, enter_parameters(binding->settings));
	bind_values(binding);
	binding->types = parameters_types(def->parameters);
	if (def->generic)
	{
		names_bind(def, parameters_load(def->parameters, binding->values, NULL),
				   !binding->is_prepared);
		if (binding->is_prepared)
			def->stages[STAGE_PREPARE] = NULL;
		check_texts(def, binding->settings);
	}
}

/*
 * For a run of the definition under the settings: check what would fail at
 * once in a worker, and return the values of the parameters, checked; their
 * types go to *types.  A generic definition, which has been given its target, is bound
 * to the names among them, and checked as a whole; without what is to be prepared, if
 * the run is prepared.  As the owner, whoever calls.
 */
Jsonb *
definition_bind(DefinitionInfo *def, Jsonb *settings, Jsonb *parameters,
				bool is_prepared, Jsonb **types)
{
	Binding		binding = {def, settings, parameters, is_prepared};

	owner_look(def->owner, def->search_path, bind_parameters, &binding);
	*types = binding.types;
	return binding.values;
}
