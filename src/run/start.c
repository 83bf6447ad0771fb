/*-------------------------------------------------------------------------
 *
 * start.c
 *	  A run comes into being.
 *
 * It is started with the rights of whoever calls, as the owner of its definition.
 * Beside which others it must not run is looked up under locks that runs of one
 * definition, and runs on one table, take one after the other, so that two that are
 * started at the same moment see each other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/limit.h"
#include "base/locks.h"
#include "definition/definition.h"
#include "run/access.h"
#include "run/start.h"
#include "run/transition.h"
#include "settings/guc.h"
#include "settings/setting.h"
#include "settings/settings.h"
#include "shared/room.h"
#include "shared/segment.h"
#include "shared/wake.h"
#include "store/definition.h"
#include "store/event.h"
#include "store/find.h"
#include "store/page.h"
#include "store/run.h"
#include "store/status.h"
#include "store/store.h"

/* How often, and how many milliseconds apart, to look whether it is free. */
#define START_LOOKS			20
#define START_LOOK_MS		10

/*
 * What runs of one definition take to be started one after the other; of a generic one,
 * those on one table.
 */
static LOCKTAG
name_tag(const char *name, Oid owner, Oid target, bool generic)
{
	uint32		hash = hash_bytes((const unsigned char *) name, strlen(name));

	if (generic)
		hash = hash_combine(hash, hash_bytes_uint32(target));
	return locks_tag(LOCK_CLASS_START, (int64) owner << 32 | hash);
}

/*
 * The active run, if any, beside which this one must not run: one of the same
 * definition with equal parameters, if that is generic on its table, or one on its
 * table without leave.  "except"
 * is the run itself, 0 if it is new.  It does not meet those that it waits for.
 * Runs of one definition, and runs on one table, are started one at a time, so
 * that two that are started at the same moment see each other.
 */
static bool
find_rival(StoreSession *session, const char *name, Oid owner, Oid target, bool generic,
		   Jsonb *parameters, Jsonb *given, ArrayType *after, int64 except, Rival *rival)
{
	LOCKTAG		tag;
	RunSettings settings;
	int64		id;
	bool		is_free;

	tag = name_tag(name, owner, target, generic);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	rival->is_equal = true;
	while ((id = store_find_equal_run(session, name, owner, target, parameters, after, except)) != 0)
	{
		/* one that was deleted in this moment is none */
		rival->run = store_load_run(session, id, false);
		if (rival->run)
			return true;
	}
	settings_resolve(given, &settings);
	if (settings.share_target)
		return false;

	/* this one a stranger may hold, and nobody waits for strangers for long */
	tag = locks_tag(LOCK_CLASS_START, target);
	is_free = LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;

	/* who has just ended his transaction may still hold the lock for an instant */
	for (int i = 0; i < START_LOOKS && !is_free; i++)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 START_LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		is_free = LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
	}
	rival->is_equal = false;
	while ((id = store_find_target_run(session, target, after, except)) != 0)
	{
		rival->run = store_load_run(session, id, false);
		if (rival->run)
			return true;
	}
	if (!is_free)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("another session is starting a run on the same table"),
				 errhint("Try again in a moment, or give the setting \"share_target\".")));
	return false;
}

/* Raises an error: that run is in the way of one of the definition. */
compat_noreturn void
start_refuse(const char *name, const Rival *rival)
{
	if (rival->is_equal)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("run " INT64_FORMAT " of backfill \"%s\" is active with the same parameters",
						rival->run->id, name),
				 errhint("Wait until it has ended, or stop it: SELECT backfill_stop(" INT64_FORMAT ").",
						 rival->run->id)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("run " INT64_FORMAT " is active on the same table", rival->run->id),
			 errdetail("Two runs on one table may wait for each other's rows."),
			 errhint("Wait until it has ended, or give the setting \"share_target\" to run beside it, whoever's it is.")));
}

/* Raises an error if there is such a run. */
void
start_check_alone(StoreSession *session, const char *name, Oid owner, Oid target,
			bool generic, Jsonb *parameters, Jsonb *given, ArrayType *after, int64 except)
{
	Rival		rival;

	if (find_rival(session, name, owner, target, generic, parameters, given, after, except, &rival))
		start_refuse(name, &rival);
}

/*
 * Raises an error unless those are runs that the caller may control.  Returns
 * NULL for none.
 */
static ArrayType *
check_after(StoreSession *session, ArrayType *after, Oid caller)
{
	if (after == NULL || ArrayGetNItems(ARR_NDIM(after), ARR_DIMS(after)) == 0)
		return NULL;
	limit_check_number("runs in \"after\"", ArrayGetNItems(ARR_NDIM(after), ARR_DIMS(after)),
					   LIMIT_AFTER);
	if (array_contains_nulls(after))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a run in \"after\" cannot be null")));
	access_check_runs(session, after, caller);
	return after;
}

/* Raises an error unless the definition is that role's, if one is given. */
static void
check_bound(const DefinitionInfo *def, const char *owner)
{
	if (owner && get_role_oid(owner, true) != def->owner)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("backfill definition %s does not belong to role \"%s\"",
						quote_identifier(def->name), owner),
				 errdetail("What was to be started is that role's definition of the name."),
				 errhint("Declare again what starts it, if the definition of today is meant.")));
}

/*
 * The definition, of which the current user may start a run with these
 * parameters and settings; a generic one, bound to the target, which is InvalidOid for
 * any other.  *parameters becomes the values of the run, with
 * their types in *types, and *settings those in force.  Raises an error if the
 * run would fail at once in a worker.
 */
DefinitionInfo *
start_check(const char *name, Oid target, Jsonb **parameters, Jsonb **settings,
			Jsonb **types)
{
	StoreSession session;
	DefinitionInfo *def;

	store_begin(&session);
	def = definition_get(&session, name);
	store_end(&session);
	definition_check_role(def->owner, "definition", quote_identifier(name));
	access_check_owner(def->owner);
	definition_take_target(def, target);
	if (*settings)
	{
		settings_check(*settings);
		(void) definition_check_change(def->owner, def->search_path, *settings, NULL);
	}
	*settings = settings_merge(def->settings, *settings);
	*parameters = definition_bind(def, *settings, *parameters, false, types);
	return def;
}

/* Tell who starts a run if the server has no room for its workers. */
static void
warn_of_room(Jsonb *settings)
{
	RunSettings resolved;
	int64		workers;

	settings_resolve(settings, &resolved);
	workers = resolved.workers == WORKERS_AUTO ? resolved.max_workers : resolved.workers;
	room_check((int) Min(workers, guc_max_workers), "the workers of the run");
}

/* The status that a new run is to have. */
static RunStatus
first_status(StoreSession *session, const StartOptions *options, ArrayType *after)
{
	if (options->paused)
		return RUN_PAUSED;
	return options->start_at > GetCurrentTimestamp() || transition_wait_reason(session, after) ?
		RUN_PENDING : RUN_ENQUEUED;
}

/*
 * Start a run of the definition, on the target if it is generic, which is to belong to the role
 * of that name, if one is given, with the rights of the current user, and return its id.  A run
 * whose first statuses have hooks waits for a worker to call them; one that begins paused
 * calls them when it is resumed.  "reason" goes into the event.  If another run is in
 * the way, this raises an error; unless "rival" is given, which is filled in then,
 * and 0 is returned.
 */
int64
start_run(const char *name, const char *owner, Oid target, Jsonb *parameters, Jsonb *settings,
		  const StartOptions *options, const char *reason, Rival *rival)
{
	ArrayType  *after = options->after;
	Oid			caller = GetUserId();
	StoreSession session;
	Jsonb	   *types;
	DefinitionInfo *def = start_check(name, target, &parameters, &settings, &types);
	RunStatus	status;
	bool		hooked;
	bool		begins_hooked;
	RunInfo    *run;
	int64		id;

	check_bound(def, owner);
	store_begin(&session);
	after = check_after(&session, after, caller);
	if (rival == NULL)
		start_check_alone(&session, def->name, def->owner, def->target, def->generic,
						  parameters, settings, after, 0);
	else if (find_rival(&session, def->name, def->owner, def->target, def->generic,
						parameters, settings, after, 0, rival))
	{
		store_end(&session);
		return 0;
	}
	status = first_status(&session, options, after);
	begins_hooked = !options->paused && store_has_hook(&session, def->name, def->owner, RUN_PENDING);
	hooked = begins_hooked ||
		(status == RUN_ENQUEUED && store_has_hook(&session, def->name, def->owner,
													RUN_ENQUEUED));
	id = store_insert_run(&session, def, caller, parameters, types, settings,
							hooked ? RUN_PENDING : status, options->start_at, after);
	if (def->source.function)
		page_set_source(&session, id, &def->source);
	run = store_load_run(&session, id, true);
	if (!begins_hooked)
		transition_begin(&session, run, GetUserNameFromId(caller, false), reason);
	if (hooked)
		transition_request(&session, run, begins_hooked ? RUN_PENDING : RUN_ENQUEUED,
						   false, GetUserNameFromId(caller, false), reason);
	store_end(&session);
	if (!options->paused)
		wake_at_commit((WakeTarget) {def->owner, id});
	if (rival == NULL && MyBgworkerEntry == NULL && segment_available())
		warn_of_room(settings);
	return id;
}
