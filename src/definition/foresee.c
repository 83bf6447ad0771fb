/*-------------------------------------------------------------------------
 *
 * foresee.c
 *	  What can be told of SQL that is to be run later.
 *
 * What is run once in a run, "prepare" and "finish", and its probe are run by a worker,
 * perhaps after days.  What would fail if they were run now is said when they are given.
 * It is a warning and no error: what they name may be made until then.  Only that is said
 * which earlier statements cannot change.  The statement of a definition with "prepare"
 * may name what that makes.
 *
 * Called as the owner, under the search_path of the definition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "base/owner.h"
#include "definition/foresee.h"
#include "definition/stage.h"

/* So many warnings are enough. */
#define WARNINGS_MAX		5

/* What the statements before have done to names. */
struct Foresight
{
	Stage		stage;			/* that is looked at, */
	int			number;			/* and which of its statements, from 1 */
	int			warnings;
	List	   *made;			/* names of relations, columns and constraints */
	bool		is_changed;		/* what a query means may have changed */
	bool		is_unknown;		/* anything may have changed */
};

/* ---- queries ---- */

/* Whether the error is about what the text says, and not about the server. */
static bool
is_about_text(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		category == ERRCODE_DATA_EXCEPTION ||
		error->sqlerrcode == ERRCODE_INVALID_SCHEMA_NAME;
}

/*
 * Call the function, in a subtransaction that is rolled back.  Returns the error that
 * the text meets, or NULL; raises any other.
 */
static ErrorData *
try(OwnerFunction function, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		function(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	CurrentResourceOwner = resources;
	MemoryContextSwitchTo(context);
	if (error && !is_about_text(error))
		ReThrowError(error);
	return error;
}

/* A statement, and, when it was analysed, its query. */
typedef struct Analysis
{
	RawStmt    *raw;
	const char *text;
	Query	   *query;
} Analysis;

static void
analyse(void *arg)
{
	Analysis   *analysis = (Analysis *) arg;

	PushActiveSnapshot(GetTransactionSnapshot());
	analysis->query = parse_analyze_fixedparams(analysis->raw, analysis->text, NULL, 0, NULL);
	PopActiveSnapshot();
}

/*
 * Analyse the statement, which is not run.  The query goes to *query, if it is given.
 * Returns the error that the text meets, or NULL; raises any other.
 */
static ErrorData *
foresee_query(RawStmt *raw, const char *text, Query **query)
{
	Analysis	analysis = {raw, text};
	ErrorData  *error = try(analyse, &analysis);

	if (query)
		*query = analysis.query;
	return error;
}

/* Whether something is not there that may be made. */
static bool
is_about_missing(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_UNDEFINED_TABLE ||
		error->sqlerrcode == ERRCODE_UNDEFINED_COLUMN ||
		error->sqlerrcode == ERRCODE_UNDEFINED_FUNCTION ||
		error->sqlerrcode == ERRCODE_UNDEFINED_OBJECT ||
		error->sqlerrcode == ERRCODE_INVALID_SCHEMA_NAME;
}

/*
 * The function checks the statement, or what else is named, of a definition with
 * "prepare" that is not done: say what is missing.  Raises any other error.
 */
void
foresee_statement(const char *what, OwnerFunction function, void *arg)
{
	ErrorData  *error = try(function, arg);

	if (error == NULL)
		return;
	if (!is_about_missing(error))
		ReThrowError(error);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("the %s would fail now: %s", what, error->message),
			 errhint("It is run after \"prepare\", which may make what is missing.")));
}

/* ---- what is run once ---- */

/* Say that the statement would fail. */
static void
warn(Foresight *foresight, int sqlstate, const char *message)
{
	if (foresight->warnings++ >= WARNINGS_MAX)
		return;
	ereport(WARNING,
			(errcode(sqlstate),
			 errmsg("statement %d of \"%s\" would fail now: %s", foresight->number,
					stage_name(foresight->stage), message),
			 foresight->stage == STAGE_PREPARE ?
			 errhint("It is run before the first batch.") :
			 errhint("It is run when every batch is done. backfill_alter replaces \"finish\" of a run that is not completed.")));
}

static bool
is_made(const Foresight *foresight, const char *name)
{
	ListCell   *lc;

	foreach(lc, foresight->made)
	{
		if (strcmp((const char *) lfirst(lc), name) == 0)
			return true;
	}
	return false;
}

/* A name is there from now on; NULL for none. */
static void
make(Foresight *foresight, const char *name)
{
	if (name)
		foresight->made = lappend(foresight->made, unconstify(char *, name));
}

/* The relation, InvalidOid if it is not there now; says so if it will not be either. */
static Oid
look_for_relation(Foresight *foresight, const RangeVar *name, bool missing_ok)
{
	Oid			relation;

	if (name == NULL || name->catalogname || is_made(foresight, name->relname) ||
		(name->schemaname && is_made(foresight, name->schemaname)))
		return InvalidOid;
	relation = RangeVarGetRelid(name, NoLock, true);
	if (!OidIsValid(relation) && !missing_ok)
		warn(foresight, ERRCODE_UNDEFINED_TABLE,
			 name->schemaname ?
			 psprintf("relation \"%s.%s\" does not exist", name->schemaname, name->relname) :
			 psprintf("relation \"%s\" does not exist", name->relname));
	return relation;
}

/* Say it if the relation, unless it is unknown, has no such column. */
static void
look_for_column(Foresight *foresight, Oid relation, const char *name)
{
	if (OidIsValid(relation) && name && get_attnum(relation, name) == InvalidAttrNumber &&
		!is_made(foresight, name))
		warn(foresight, ERRCODE_UNDEFINED_COLUMN,
			 psprintf("column \"%s\" of relation \"%s\" does not exist", name, get_rel_name(relation)));
}

static void
look_for_constraint(Foresight *foresight, Oid relation, const char *name)
{
	if (OidIsValid(relation) && name && !is_made(foresight, name) &&
		!OidIsValid(get_relation_constraint_oid(relation, name, true)))
		warn(foresight, ERRCODE_UNDEFINED_OBJECT,
			 psprintf("constraint \"%s\" of relation \"%s\" does not exist", name, get_rel_name(relation)));
}

static void
look_at_alter(Foresight *foresight, const AlterTableStmt *stmt)
{
	Oid			relation = look_for_relation(foresight, stmt->relation, stmt->missing_ok);
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		switch (cmd->subtype)
		{
			case AT_ColumnDefault:
			case AT_DropNotNull:
			case AT_SetNotNull:
			case AT_AlterColumnType:
				look_for_column(foresight, relation, cmd->name);
				break;
			case AT_DropColumn:
				if (!cmd->missing_ok)
					look_for_column(foresight, relation, cmd->name);
				break;
			case AT_ValidateConstraint:
				look_for_constraint(foresight, relation, cmd->name);
				break;
			case AT_DropConstraint:
				if (!cmd->missing_ok)
					look_for_constraint(foresight, relation, cmd->name);
				break;
			case AT_AddColumn:
				make(foresight, castNode(ColumnDef, cmd->def)->colname);
				break;
			case AT_AddConstraint:
				if (castNode(Constraint, cmd->def)->conname == NULL)
					foresight->is_unknown = true;
				make(foresight, castNode(Constraint, cmd->def)->conname);
				break;
			default:
				break;
		}
	}
	foresight->is_changed = true;
}

static void
look_at_index(Foresight *foresight, const IndexStmt *stmt)
{
	Oid			relation = look_for_relation(foresight, stmt->relation, false);
	ListCell   *lc;

	foreach(lc, stmt->indexParams)
		look_for_column(foresight, relation, lfirst_node(IndexElem, lc)->name);
	if (stmt->idxname == NULL)
		foresight->is_unknown = true;
	make(foresight, stmt->idxname);
}

static void
look_at_drop(Foresight *foresight, const DropStmt *stmt)
{
	ListCell   *lc;

	foresight->is_changed = true;
	if (stmt->removeType != OBJECT_TABLE && stmt->removeType != OBJECT_INDEX &&
		stmt->removeType != OBJECT_VIEW && stmt->removeType != OBJECT_MATVIEW)
		return;
	foreach(lc, stmt->objects)
		(void) look_for_relation(foresight, makeRangeVarFromNameList(castNode(List, lfirst(lc))),
								 stmt->missing_ok);
}

static void
look_at_relations(Foresight *foresight, const List *relations)
{
	ListCell   *lc;

	foreach(lc, relations)
	{
		Node	   *node = lfirst(lc);

		(void) look_for_relation(foresight, IsA(node, VacuumRelation) ?
								 ((VacuumRelation *) node)->relation : castNode(RangeVar, node),
								 false);
	}
}

/* Look at one statement, and note what it makes. */
static void
look_at_statement(Foresight *foresight, RawStmt *raw, const char *text)
{
	Node	   *stmt = raw->stmt;
	ErrorData  *error;

	switch (nodeTag(stmt))
	{
		case T_SelectStmt:
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			error = foresight->is_changed ? NULL : foresee_query(raw, text, NULL);
			if (error)
				warn(foresight, error->sqlerrcode, error->message);
			break;
		case T_AlterTableStmt:
			look_at_alter(foresight, (AlterTableStmt *) stmt);
			break;
		case T_IndexStmt:
			look_at_index(foresight, (IndexStmt *) stmt);
			break;
		case T_DropStmt:
			look_at_drop(foresight, (DropStmt *) stmt);
			break;
		case T_VacuumStmt:
			look_at_relations(foresight, ((VacuumStmt *) stmt)->rels);
			break;
		case T_TruncateStmt:
			look_at_relations(foresight, ((TruncateStmt *) stmt)->relations);
			break;
		case T_ReindexStmt:
			(void) look_for_relation(foresight, ((ReindexStmt *) stmt)->relation, false);
			break;
		case T_RefreshMatViewStmt:
			(void) look_for_relation(foresight, ((RefreshMatViewStmt *) stmt)->relation, false);
			break;
		case T_RenameStmt:
			(void) look_for_relation(foresight, ((RenameStmt *) stmt)->relation,
									 ((RenameStmt *) stmt)->missing_ok);
			make(foresight, ((RenameStmt *) stmt)->newname);
			foresight->is_changed = true;
			break;
		case T_CreateStmt:
			make(foresight, ((CreateStmt *) stmt)->relation->relname);
			foresight->is_changed = true;
			break;
		case T_CreateTableAsStmt:
			make(foresight, ((CreateTableAsStmt *) stmt)->into->rel->relname);
			foresight->is_changed = true;
			break;
		case T_ViewStmt:
			make(foresight, ((ViewStmt *) stmt)->view->relname);
			foresight->is_changed = true;
			break;
		case T_CommentStmt:
		case T_GrantStmt:
		case T_NotifyStmt:
			break;
		default:
			foresight->is_unknown = true;
			break;
	}
}

/* Nothing has been done yet. */
Foresight *
foresee_begin(void)
{
	return palloc0(sizeof(Foresight));
}

/* Say of the statements of the stage, which comes next, which would fail now. */
void
foresee_stage(Foresight *foresight, Stage stage, const char *text, List *raws)
{
	ListCell   *lc;

	foresight->stage = stage;
	foresight->number = 0;
	foreach(lc, raws)
	{
		CHECK_FOR_INTERRUPTS();
		if (foresight->is_unknown || foresight->warnings >= WARNINGS_MAX)
			break;
		foresight->number++;
		look_at_statement(foresight, lfirst_node(RawStmt, lc), text);
	}
}

/* ---- the probe ---- */

/*
 * Raises an error if the probe answers yes or no: what it returns is the reason to wait,
 * and "false" would be one.
 */
void
foresee_probe(const char *text)
{
	RawStmt    *raw = linitial_node(RawStmt, raw_parser(text, RAW_PARSE_DEFAULT));
	Query	   *query = NULL;
	ErrorData  *error = foresee_query(raw, text, &query);
	List	   *columns;

	if (error)
	{
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("the probe would fail now: %s", error->message),
				 errhint("A run is held as long as its probe fails.")));
		return;
	}
	columns = query->commandType == CMD_SELECT ? query->targetList : query->returningList;
	if (columns != NIL &&
		getBaseType(exprType((Node *) linitial_node(TargetEntry, columns)->expr)) == BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the probe of a backfill cannot return a boolean"),
				 errdetail("What it returns is the reason to hold the run, as a text, and null has it go on: false would be a reason, too."),
				 errhint("Write for example SELECT 'queue is long' FROM queue HAVING count(*) > 1000.")));
}

/* Whether the query has a column of that name. */
static bool
has_column(const Query *query, const char *name)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		const TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (!entry->resjunk && entry->resname && strcmp(entry->resname, name) == 0)
			return true;
	}
	return false;
}

/*
 * A query that gives the streams of a run: raises an error if it is none, or names none.
 * That it would fail now is a warning: what it names may be made.
 */
void
foresee_streams(const char *text)
{
	List	   *raws = raw_parser(text, RAW_PARSE_DEFAULT);
	Query	   *query = NULL;
	ErrorData  *error;

	if (list_length(raws) != 1 || !IsA(linitial_node(RawStmt, raws)->stmt, SelectStmt))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"streams\" of a backfill is not a query"),
				 errhint("Write a SELECT that returns \"name\", and may return \"from\", \"to\" and \"weight\"; or a JSON array of names; or \"partitions\".")));
	error = foresee_query(linitial_node(RawStmt, raws), text, &query);
	if (error)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("the query for the streams would fail now: %s", error->message)));
	else if (!has_column(query, "name"))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("the query for the streams of a backfill returns no column \"name\"")));
}
