/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between the server versions 15 to 19.
 *
 * Nothing else in the extension asks for the server's version: a difference
 * gets a name here, after what it does, and the name is used everywhere.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_COMPAT_H
#define BACKFILL_COMPAT_H

#include "access/amapi.h"
#include "access/heapam.h"
#include "access/transam.h"
#include "catalog/pg_database.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "fmgr.h"
#include "parser/parse_type.h"
#include "postmaster/bgworker.h"
#include "storage/bufmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "storage/smgr.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 200000
#error "backfill supports PostgreSQL 15 to 19"
#endif

/*
 * The library is built with -fvisibility=hidden: what leaves it is marked with
 * PGDLLEXPORT.  On 15 that mark is empty, and PG_FUNCTION_INFO_V1 does not put
 * it on the function; from 16 on it does.  So whatever has an SQL-callable
 * function, or declares an entry point of a process, includes this file.
 */
#if PG_VERSION_NUM < 160000
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#undef PG_FUNCTION_INFO_V1
#define PG_FUNCTION_INFO_V1(funcname) \
extern PGDLLEXPORT Datum funcname(PG_FUNCTION_ARGS); \
extern PGDLLEXPORT const Pg_finfo_record *CppConcat(pg_finfo_,funcname)(void); \
const Pg_finfo_record * \
CppConcat(pg_finfo_,funcname)(void) \
{ \
	static const Pg_finfo_record my_finfo = {1}; \
	return &my_finfo; \
} \
extern int no_such_variable
#endif

/* Named wait events for extensions came with 17. */
#if PG_VERSION_NUM >= 170000
#define compat_wait_event(name) WaitEventExtensionNew(name)
#else
#define compat_wait_event(name) PG_WAIT_EXTENSION
#endif

/* Whether that wait event is a wait for the content of a page: 19 has no LWLocks for it any more. */
static inline bool
compat_waits_for_content(uint32 event)
{
#if PG_VERSION_NUM >= 190000
	return (event & 0xFF000000U) == PG_WAIT_BUFFER;
#else
	return event == (PG_WAIT_LWLOCK | LWTRANCHE_BUFFER_CONTENT);
#endif
}

/* A worker may connect as a role without LOGIN from 17 on. */
#if PG_VERSION_NUM >= 170000
#define COMPAT_OWNER_NEEDS_LOGIN	false
#define COMPAT_CONNECT_AS_OWNER		BGWORKER_BYPASS_ROLELOGINCHECK
#else
#define COMPAT_OWNER_NEEDS_LOGIN	true
#define COMPAT_CONNECT_AS_OWNER		0
#endif

/* 18 calls the kind of a row comparison by an index-neutral name. */
#if PG_VERSION_NUM >= 180000
#define compat_set_row_compare(rce, strategy) ((rce)->cmptype = (CompareType) (strategy))
#else
#define compat_set_row_compare(rce, strategy) ((rce)->rctype = (RowCompareType) (strategy))
#endif

/* 18 dropped the argument run_once of PortalRun. */
static inline void
compat_portal_run(Portal portal, DestReceiver *dest, QueryCompletion *qc)
{
#if PG_VERSION_NUM >= 180000
	(void) PortalRun(portal, FETCH_ALL, true, dest, dest, qc);
#else
	(void) PortalRun(portal, FETCH_ALL, true, true, dest, dest, qc);
#endif
}

/* 18 dropped the argument execute_once of ExecutorRun. */
static inline void
compat_executor_run(QueryDesc *desc)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(desc, ForwardScanDirection, 0);
#else
	ExecutorRun(desc, ForwardScanDirection, 0, true);
#endif
}

/* Whether no row has a null in the column; from 18 on a constraint may be there and not hold yet. */
static inline bool
compat_is_not_null(TupleDesc desc, AttrNumber attno)
{
#if PG_VERSION_NUM >= 180000
	return TupleDescCompactAttr(desc, attno - 1)->attnullability == ATTNULLABLE_VALID;
#else
	return TupleDescAttr(desc, attno - 1)->attnotnull;
#endif
}

/* From 16 on indexes that only summarize blocks do not get in the way of HOT. */
static inline bool
compat_index_blocks_hot(Relation index)
{
#if PG_VERSION_NUM >= 160000
	return !index->rd_indam->amsummarizing;
#else
	return true;
#endif
}

/* Whether the role may connect to the database (16 unified the checks). */
static inline bool
compat_may_connect(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(DatabaseRelationId, database, role,
						   ACL_CONNECT) == ACLCHECK_OK;
#else
	return pg_database_aclcheck(database, role, ACL_CONNECT) == ACLCHECK_OK;
#endif
}

/* Whether the role may call the function (16 unified the checks). */
static inline bool
compat_may_execute(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

/* 17 renamed the process part of a virtual transaction id, and moved it. */
#if PG_VERSION_NUM >= 170000
#define compat_my_lxid()	(MyProc->vxid.lxid)
#define compat_proc_lxid(proc) ((proc)->vxid.lxid)
#define compat_vxid_proc(vxid) \
	((vxid).procNumber == INVALID_PROC_NUMBER ? NULL : \
	 ProcNumberGetProc((vxid).procNumber))
#else
#define compat_my_lxid()	(MyProc->lxid)
#define compat_proc_lxid(proc) ((proc)->lxid)
#define compat_vxid_proc(vxid) \
	((vxid).backendId == InvalidBackendId ? NULL : \
	 BackendIdGetProc((vxid).backendId))
#endif

/* The process in that transaction, or 0 if it was prepared or has ended. */
static inline int
compat_vxid_pid(VirtualTransactionId vxid)
{
	PGPROC	   *proc = compat_vxid_proc(vxid);

	return proc && compat_proc_lxid(proc) == vxid.localTransactionId ? proc->pid : 0;
}

/* Whether the transaction is that of a VACUUM. */
static inline bool
compat_vxid_in_vacuum(VirtualTransactionId vxid)
{
	PGPROC	   *proc = compat_vxid_proc(vxid);

	return proc && compat_proc_lxid(proc) == vxid.localTransactionId &&
		(proc->statusFlags & PROC_IN_VACUUM) != 0;
}

/* 17 has transaction_timeout, which ends a session, not a transaction. */
#if PG_VERSION_NUM >= 170000
#define COMPAT_HAS_TRANSACTION_TIMEOUT true
#else
#define COMPAT_HAS_TRANSACTION_TIMEOUT false
#endif

/* Whether the role may run code as the owner (16 tells that from inheriting). */
static inline bool
compat_may_act_as(Oid role, Oid owner)
{
#if PG_VERSION_NUM >= 160000
	return has_privs_of_role(role, owner) && member_can_set_role(role, owner);
#else
	return has_privs_of_role(role, owner);
#endif
}

/* 16 gave the parser of type names a place for soft errors. */
static inline void
compat_parse_type(const char *text, Oid *type, int32 *typmod)
{
#if PG_VERSION_NUM >= 160000
	(void) parseTypeString(text, type, typmod, NULL);
#else
	parseTypeString(text, type, typmod, false);
#endif
}

/* What a check hook of a parameter leaves behind is the parameters' own since 16. */
#if PG_VERSION_NUM >= 160000
#define compat_guc_alloc(size) guc_malloc(LOG, size)
#else
#define compat_guc_alloc(size) malloc(size)
#endif

/* 18 marks functions that do not return in another place and way. */
#if PG_VERSION_NUM >= 180000
#define compat_noreturn pg_noreturn
#else
#define compat_noreturn pg_attribute_noreturn()
#endif

/* A handler of 19 takes a second argument, which SIG_IGN has not. */
#if PG_VERSION_NUM < 190000
#define PG_SIG_IGN	SIG_IGN
#endif

/* 19 counts rows in a kind of instrumentation that only nodes of a plan have. */
#if PG_VERSION_NUM >= 190000
typedef NodeInstrumentation CompatNodeInstrumentation;
#else
typedef Instrumentation CompatNodeInstrumentation;
#endif

/* Since 19 a publication of all tables may except some; partitions follow their root. */
#if PG_VERSION_NUM >= 190000
#define compat_publications(relid) GetRelationIncludedPublications(relid)
#define compat_publications_of_all(root) \
	list_difference_oid(GetAllTablesPublications(), GetRelationExcludedPublications(root))
#else
#define compat_publications(relid) GetRelationPublications(relid)
#define compat_publications_of_all(root) ((void) (root), GetAllTablesPublications())
#endif

/* A hash table in shared memory, of a fixed number of entries: 19 asks for it once. */
#if PG_VERSION_NUM >= 190000
#define compat_shmem_hash(name, n, info, flags) ShmemInitHash(name, n, info, flags)
#else
#define compat_shmem_hash(name, n, info, flags) ShmemInitHash(name, n, n, info, flags)
#endif

/* CLUSTER and VACUUM FULL report where they are; 19 calls all of that REPACK. */
#if PG_VERSION_NUM >= 190000
#define COMPAT_REPACK_PROGRESS	"pg_stat_progress_repack"
#else
#define COMPAT_REPACK_PROGRESS	"pg_stat_progress_cluster"
#endif

/*
 * From 19 on CREATE, ALTER and DROP DATABASE can end a process that is connected to
 * the database.  Before, they fail while one is.
 */
#if PG_VERSION_NUM >= 190000
#define COMPAT_INTERRUPTIBLE	BGWORKER_INTERRUPTIBLE
#else
#define COMPAT_INTERRUPTIBLE	0
#endif

/* The type of databases by name came with 19. */
#if PG_VERSION_NUM >= 190000
#define COMPAT_REGDATABASEOID REGDATABASEOID
#else
#define COMPAT_REGDATABASEOID InvalidOid
#endif

/*
 * 19 keeps the result of pushJsonbValue in the state, where others return it.
 * The name stays, so that a jsonb is built here as in any extension.
 */
#if PG_VERSION_NUM >= 190000
static inline JsonbValue *
compat_push_jsonb(JsonbParseState **state, JsonbIteratorToken token, JsonbValue *value)
{
	JsonbInState all = {.parseState = *state};

	pushJsonbValue(&all, token, value);
	*state = all.parseState;
	return all.result;
}
#define pushJsonbValue compat_push_jsonb
#endif

/*
 * Remove what nobody can see any more from a page of a heap, if it is worth it and
 * nobody uses it.  From 19 on the visibility map has a say.
 */
#if PG_VERSION_NUM >= 190000
static inline void
compat_prune_page(Relation rel, Buffer buffer)
{
	Buffer		vmbuffer = InvalidBuffer;

	heap_page_prune_opt(rel, buffer, &vmbuffer, false);
	if (BufferIsValid(vmbuffer))
		ReleaseBuffer(vmbuffer);
}
#else
#define compat_prune_page(rel, buffer) heap_page_prune_opt(rel, buffer)
#endif

/* 18 added a place for instrumentation to index_beginscan. */
#if PG_VERSION_NUM >= 190000
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0, SO_NONE)
#elif PG_VERSION_NUM >= 180000
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

/* The blocks of a file with all its forks, 0 if there is none; 16 and 17 renamed what names one. */
static inline int64
compat_file_blocks(Oid tablespace, Oid database, Oid file)
{
#if PG_VERSION_NUM >= 170000
	RelFileLocator locator = {tablespace, database, file};
	SMgrRelation smgr = smgropen(locator, INVALID_PROC_NUMBER);
#elif PG_VERSION_NUM >= 160000
	RelFileLocator locator = {tablespace, database, file};
	SMgrRelation smgr = smgropen(locator, InvalidBackendId);
#else
	RelFileNode node = {tablespace, database, file};
	SMgrRelation smgr = smgropen(node, InvalidBackendId);
#endif
	int64		blocks = 0;

	for (ForkNumber fork = 0; fork <= MAX_FORKNUM; fork++)
	{
		if (smgrexists(smgr, fork))
			blocks += smgrnblocks(smgr, fork);
	}
	smgrclose(smgr);
	return blocks;
}

/*
 * The counters of a table that a process has not reported yet, as find_tabstat_entry
 * finds them: 16 renamed them, and returns a copy, with the current transaction in it.
 */
#if PG_VERSION_NUM >= 160000
#define compat_updated(status)		((status)->counts.tuples_updated)
#define compat_hot_updated(status)	((status)->counts.tuples_hot_updated)
#define COMPAT_COUNTS_ARE_COPY	true
#else
#define compat_updated(status)		((status)->t_counts.t_tuples_updated)
#define compat_hot_updated(status)	((status)->t_counts.t_tuples_hot_updated)
#define COMPAT_COUNTS_ARE_COPY	false
#endif

/* 18 wants a name and a version in the magic block. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "backfill", .version = BACKFILL_VERSION)
#else
#define COMPAT_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* What the statistics tell of a session, by its place in them, from 1; or NULL. */
#if PG_VERSION_NUM >= 160000
#define compat_local_backend(i) pgstat_get_local_beentry_by_index(i)
#else
#define compat_local_backend(i) pgstat_fetch_stat_local_beentry(i)
#endif

/* Whether the operator is one of those by which an index may order values. */
#if PG_VERSION_NUM >= 180000
#define compat_orders(operator) (get_op_index_interpretation(operator) != NIL)
#else
#define compat_orders(operator) (get_op_btree_interpretation(operator) != NIL)
#endif

/* What the parser's hook is told of a query's fingerprint. */
#if PG_VERSION_NUM >= 190000
#define compat_jumble const JumbleState
#else
#define compat_jumble JumbleState
#endif

#endif							/* BACKFILL_COMPAT_H */
