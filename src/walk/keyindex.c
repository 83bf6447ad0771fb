/*-------------------------------------------------------------------------
 *
 * keyindex.c
 *	  Which index of a table a walk may follow.
 *
 * Any valid btree index on columns that all go the same way will do.  What it does not
 * say is made up for elsewhere: rows that share a key come in one batch, rows with
 * a null in the key are a last range, and of an index that covers only some of the rows it
 * has to be proven that the scope asks for no others.
 *
 * The first columns of an index serve as well as all of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/position.h"
#include "walk/keyindex.h"

/* Names in a hint; a table may have hundreds of indexes. */
#define MOST_NAMES		5

/* The first key columns of the index; raises an error if group_by are others. */
static int
group_columns(Relation rel, Relation index, List *group_by)
{
	Form_pg_index form = index->rd_index;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, group_by)
	{
		const char *name = lfirst(lc);
		AttrNumber	attno = n < form->indnkeyatts ? form->indkey.values[n] : 0;

		if (attno <= 0 ||
			strcmp(NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname), name) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("backfill setting \"group_by\" must name the first columns of the key"),
					 attno > 0 ?
					 errdetail("Column %d of index \"%s\" is \"%s\", not \"%s\".", n + 1,
							   RelationGetRelationName(index),
							   NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname), name) :
					 errdetail("Index \"%s\" has no column %d to compare with \"%s\".",
							   RelationGetRelationName(index), n + 1, name),
					 errhint("Name in \"key\" an index that begins with these columns.")));
		n++;
	}
	return n > 0 ? n : form->indnkeyatts;
}

/*
 * Why no walk can follow the first n columns of the index, or NULL if one can; the first may
 * be an expression on demand.
 */
static const char *
find_defect(Relation index, int n, bool expression_first)
{
	Form_pg_index form = index->rd_index;

	if (index->rd_rel->relam != BTREE_AM_OID)
		return "It is not a btree index.";
	if (!form->indisvalid || !form->indisready || !form->indislive)
		return "It is not valid.";
	for (int i = 0; i < n; i++)
	{
		if (form->indkey.values[i] <= 0 && (i > 0 || !expression_first))
			return "It is on an expression.";
		if (((index->rd_indoption[i] ^ index->rd_indoption[0]) & INDOPTION_DESC) != 0)
			return "Some of its columns are ascending and others descending.";
	}
	return NULL;
}

/* How well an index does as the key. */
typedef enum Fitness
{
	FIT_BEST,					/* unique, for all rows, without nulls */
	FIT_WELL,					/* but for one of these */
	FIT_NOT
} Fitness;

static Fitness
judge(Relation rel, Relation index)
{
	Form_pg_index form = index->rd_index;

	if (find_defect(index, form->indnkeyatts, false) != NULL)
		return FIT_NOT;
	if (!form->indisunique || RelationGetIndexPredicate(index) != NIL)
		return FIT_WELL;
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		if (!compat_is_not_null(RelationGetDescr(rel), form->indkey.values[i]))
			return FIT_WELL;
	}
	return FIT_BEST;
}

/* The names of the table's indexes that do so well, in quotes; NULL if there are none. */
static char *
name_indexes(Relation rel, Fitness fitness)
{
	StringInfoData buf;
	int			n = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (judge(rel, index) == fitness && ++n <= MOST_NAMES)
			appendStringInfo(&buf, "%s\"%s\"", n > 1 ? ", " : "", RelationGetRelationName(index));
		index_close(index, NoLock);
		if (n > MOST_NAMES)
		{
			appendStringInfoString(&buf, ", ...");
			break;
		}
	}
	return n > 0 ? buf.data : NULL;
}

/* What to do about a table without a primary key, as a sentence. */
static char *
advise(Relation rel)
{
	char	   *best = name_indexes(rel, FIT_BEST);
	char	   *well = best ? NULL : name_indexes(rel, FIT_WELL);

	if (best)
		return psprintf("Name one of its unique indexes in \"key\": %s.", best);
	if (well)
		return psprintf("Name one of its indexes in \"key\": %s.", well);
	if (rel->rd_rel->relkind == RELKIND_RELATION)
		return pstrdup("Create an index and name it in \"key\", or walk the pages of the table with \"key\" => 'ctid'.");
	return pstrdup("Create an index and name it in \"key\".");
}

/*
 * The index of that name, or of the primary key if it is NULL; InvalidOid if there is none of
 * that name.  Raises an error that names what could serve when there is no primary key.  One
 * whose check is deferred orders the rows just as well.
 */
Oid
keyindex_find(Relation rel, const char *key)
{
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (key ? strcmp(RelationGetRelationName(index), key) == 0 : index->rd_index->indisprimary)
			result = lfirst_oid(lc);
		index_close(index, NoLock);
	}
	if (!OidIsValid(result) && key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel)),
				 errhint("%s", advise(rel))));
	return result;
}

/* There is no index of that name. */
compat_noreturn void
keyindex_refuse_name(Relation rel, const char *key)
{
	char	   *names = name_indexes(rel, FIT_BEST);

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("index \"%s\" of table \"%s\" does not exist",
					key, RelationGetRelationName(rel)),
			 names ?
			 errhint("The key is the name of an index of the table, without a schema, such as %s.", names) :
			 errhint("The key is the name of an index of the table, without a schema.")));
}

/*
 * How many of its first columns a walk in such groups follows.  Raises an error unless there
 * is such a walk along the index.
 */
int
keyindex_columns(Relation rel, Relation index, const RunSettings *settings)
{
	int			n = group_columns(rel, index, settings->group_by);
	const char *defect = find_defect(index, n, settings->share_by != NULL);

	if (defect)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot walk along index \"%s\"", RelationGetRelationName(index)),
				 errdetail_internal("%s", defect),
				 errhint("Name a valid btree index on columns of the table in \"key\", all of which are ascending or all descending.")));
	return n;
}

/* The expression, analysed, about the columns of the table as the relation 1. */
static Node *
analyse(Relation rel, const char *text)
{
	PositionText context = {"share_by", text};
	ErrorContextCallback callback;
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *nsitem;
	SelectStmt *select;
	Node	   *expr;

	callback.callback = position_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	select = castNode(SelectStmt,
					  linitial_node(RawStmt, raw_parser(text, RAW_PARSE_PLPGSQL_EXPR))->stmt);
	if (list_length(select->targetList) != 1 || select->distinctClause || select->fromClause ||
		select->whereClause || select->groupClause || select->havingClause ||
		select->windowClause || select->sortClause || select->limitCount ||
		select->limitOffset || select->lockingClause)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("backfill setting \"share_by\" must be one expression")));
	pstate->p_sourcetext = text;
	nsitem = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL, false, true);
	addNSItemToQuery(pstate, nsitem, true, true, true);
	expr = transformExpr(pstate, linitial_node(ResTarget, select->targetList)->val,
						 EXPR_KIND_INDEX_EXPRESSION);
	assign_expr_collations(pstate, expr);
	expr = eval_const_expressions(NULL, expr);
	error_context_stack = callback.previous;
	return expr;
}

/*
 * Whether the first column of the index is that column of the table, by its name, or that
 * expression.
 */
bool
keyindex_begins_with(Relation rel, Relation index, const char *text)
{
	AttrNumber	first = index->rd_index->indkey.values[0];
	Node	   *expr;

	if (get_attnum(RelationGetRelid(rel), text) != InvalidAttrNumber)
		return first == get_attnum(RelationGetRelid(rel), text);
	expr = analyse(rel, text);
	if (IsA(expr, Var))
		return first == ((Var *) expr)->varattno;
	return first == 0 && equal(expr, linitial(RelationGetIndexExpressions(index)));
}
