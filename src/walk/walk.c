/*-------------------------------------------------------------------------
 *
 * walk.c
 *	  The key of a walk, and ranges of it as conditions.
 *
 * A walk follows one unique, not-null btree index of the target from one end
 * to the other, in ranges (start, end].  Start and end are in the direction of
 * the walk, so that nobody else has to ask which it is.
 *
 * Comparisons are built from the index's own operators, operator families and
 * collations, never looked up by name: they always match the index, and no
 * search_path has a say in them.
 *
 * What is evaluated here runs with the rights of the session's
 * user, the owner of the run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_relation.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "walk/walk.h"

compat_noreturn static void
refuse_target(Relation rel, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot backfill \"%s\"", RelationGetRelationName(rel)),
			 errdetail_internal("%s", what),
			 hint ? errhint("%s", hint) : 0));
}

/* Raises an error unless the relation is a table that can be walked. */
static void
check_target(Relation rel)
{
	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_FOREIGN_TABLE:
			refuse_target(rel, "It is a foreign table: a change there and its record here cannot be one transaction.",
						  "Run the backfill in the database where the table is.");
		case RELKIND_VIEW:
		case RELKIND_MATVIEW:
			refuse_target(rel, "It is a view, which has no key to walk.",
						  "Name the table below it, and refer to the view in the statement if you need it.");
		default:
			refuse_target(rel, "It is not a table.", NULL);
	}
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse_target(rel, "It is a temporary table, which no other session can see.",
					  "Use a table that is not temporary.");
	if (IsCatalogRelation(rel) || IsToastRelation(rel) || rel->rd_id < FirstNormalObjectId)
		refuse_target(rel, "It is a system catalog.", NULL);
	if (getExtensionOfObject(RelationRelationId, RelationGetRelid(rel)) ==
		get_extension_oid("backfill", true))
		refuse_target(rel, "It is a table of the extension backfill.", NULL);
}

/* The index of the target with that name; raises an error if there is none. */
static Oid
find_named_index(Relation rel, const char *key)
{
	Oid			result = InvalidOid;
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		char	   *name = get_rel_name(lfirst_oid(lc));

		if (name && strcmp(name, key) == 0)
			result = lfirst_oid(lc);
	}
	if (!OidIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("index \"%s\" of table \"%s\" does not exist",
						key, RelationGetRelationName(rel)),
				 errhint("The key is the name of a unique index of the table, without a schema.")));
	return result;
}

/*
 * The primary key's index; raises an error that names what could serve.  One
 * whose check is deferred orders the rows just as well.
 */
static Oid
find_primary_key(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisprimary)
			result = lfirst_oid(lc);
		index_close(index, NoLock);
	}
	if (!OidIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel)),
				 indexes != NIL ?
				 errhint("Name a unique index on columns that are NOT NULL in \"key\".") :
				 errhint("Create a unique index on columns that are NOT NULL and name it in \"key\".")));
	return result;
}

compat_noreturn static void
refuse_index(Relation index, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot walk along index \"%s\"", RelationGetRelationName(index)),
			 errdetail_internal("%s", what),
			 errhint("Name a valid unique btree index on columns that are NOT NULL in \"key\".")));
}

/* Raises an error unless the index orders every row of the target. */
static void
check_index(Relation rel, Relation index)
{
	Form_pg_index form = index->rd_index;
	bool		descending = false;

	if (index->rd_rel->relam != BTREE_AM_OID)
		refuse_index(index, "It is not a btree index.");
	if (!form->indisunique)
		refuse_index(index, "It is not unique.");
	if (!form->indisvalid || !form->indisready || !form->indislive)
		refuse_index(index, "It is not valid.");
	if (RelationGetIndexPredicate(index) != NIL)
		refuse_index(index, "It covers only some of the rows.");
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		AttrNumber	attno = form->indkey.values[i];
		bool		column_descending = (index->rd_indoption[i] & INDOPTION_DESC) != 0;

		if (attno <= 0)
			refuse_index(index, "It is on an expression.");
		if (!TupleDescAttr(RelationGetDescr(rel), attno - 1)->attnotnull)
			refuse_index(index, psprintf("Its column \"%s\" may be null.",
										 NameStr(TupleDescAttr(RelationGetDescr(rel),
															   attno - 1)->attname)));
		if (i == 0)
			descending = column_descending;
		else if (descending != column_descending)
			refuse_index(index, "Some of its columns are ascending and others descending.");
	}
}

/*
 * Raises an error unless the key orders the rows of the inheritance children,
 * too.  Partitions are what their parent is; children may differ from it.
 */
static void
check_children(Walk *walk, Relation rel, Relation index)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(walk->target, AccessShareLock, NULL))
	{
		Relation	child = table_open(lfirst_oid(lc), NoLock);

		if (child->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
			refuse_target(rel, psprintf("Its child \"%s\" is a foreign table: a change there and its record here cannot be one transaction.",
										RelationGetRelationName(child)), NULL);
		for (int i = 0; i < walk->nkeys; i++)
		{
			AttrNumber	attno = get_attnum(RelationGetRelid(child), walk->columns[i].name);

			if (!TupleDescAttr(RelationGetDescr(child), attno - 1)->attnotnull)
				refuse_index(index, psprintf("Its column \"%s\" may be null in the child \"%s\".",
											 walk->columns[i].name,
											 RelationGetRelationName(child)));
		}
		table_close(child, NoLock);
	}
}

/* Whether the text of a value of the type is the same under any parameters. */
static bool
text_is_fixed(Oid type)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NUMERICOID:
		case BOOLOID:
		case CHAROID:
		case NAMEOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case UUIDOID:
			return true;
		default:
			return false;
	}
}

static void
open_column(Walk *walk, WalkColumn *column, Relation rel, Relation index, int i)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel),
										  index->rd_index->indkey.values[i] - 1);
	int16		option = index->rd_indoption[i];
	Oid			func;
	bool		varlena;

	column->name = pstrdup(NameStr(att->attname));
	column->attno = att->attnum;
	column->type = att->atttypid;
	column->column_collation = att->attcollation;
	column->collation = index->rd_indcollation[i];
	column->opfamily = index->rd_opfamily[i];
	column->opcintype = index->rd_opcintype[i];
	column->argtype = IsPolymorphicType(column->opcintype) || column->opcintype == RECORDOID ?
		getBaseType(att->atttypid) : column->opcintype;

	/* an ascending scan runs backward over a descending index */
	column->nulls_first = ((option & INDOPTION_NULLS_FIRST) != 0) !=
		((option & INDOPTION_DESC) != 0);

	getTypeOutputInfo(column->argtype, &func, &varlena);
	fmgr_info(func, &column->output);
	getTypeInputInfo(column->argtype, &func, &column->ioparam);
	fmgr_info(func, &column->input);
	get_typlenbyval(column->argtype, &column->typlen, &column->typbyval);
	if (!text_is_fixed(column->argtype))
		walk->pin = true;
}

/*
 * The walk of the target along its primary key or the index named.  Raises an
 * error that says why when there is no such walk.  Allocated in the current
 * memory context; the target stays locked (ACCESS SHARE) until the end of the
 * transaction.
 */
Walk *
walk_open(Oid target, const char *key, bool descending)
{
	Walk	   *walk = palloc0(sizeof(Walk));
	Relation	rel;
	Relation	index;

	rel = try_relation_open(target, AccessShareLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the target table of the backfill was dropped"),
				 errdetail("There is no relation with OID %u.", target)));
	check_target(rel);
	index = index_open(key ? find_named_index(rel, key) : find_primary_key(rel),
					   AccessShareLock);
	check_index(rel, index);

	walk->target = target;
	walk->index = RelationGetRelid(index);
	walk->target_name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												   RelationGetRelationName(rel));
	walk->has_children = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		has_subclass(target);
	walk->descending = descending;
	walk->nkeys = index->rd_index->indnkeyatts;
	for (int i = 0; i < walk->nkeys; i++)
		open_column(walk, &walk->columns[i], rel, index, i);
	walk->may_repeat = rel->rd_rel->relkind == RELKIND_RELATION && walk->has_children;
	if (walk->may_repeat)
		check_children(walk, rel, index);

	index_close(index, NoLock);
	relation_close(rel, NoLock);
	return walk;
}

/* What a key column is, as text: number, type and collation. */
static char *
column_text(WalkColumn *column)
{
	return psprintf("column %d %s%s", column->attno,
					format_type_be_qualified(column->argtype),
					OidIsValid(column->collation) ?
					psprintf(" collation %u", column->collation) : "");
}

/* What the key's columns are, as an array of texts, for later. */
ArrayType *
walk_key_types(Walk *walk)
{
	Datum		texts[INDEX_MAX_KEYS];

	for (int i = 0; i < walk->nkeys; i++)
		texts[i] = CStringGetTextDatum(column_text(&walk->columns[i]));
	return construct_array(texts, walk->nkeys, TEXTOID, -1, false, TYPALIGN_INT);
}

/* Whether the text is that of the column with any type of integer. */
static bool
is_integer_column(const char *text, int attno)
{
	return strcmp(text, psprintf("column %d smallint", attno)) == 0 ||
		strcmp(text, psprintf("column %d integer", attno)) == 0 ||
		strcmp(text, psprintf("column %d bigint", attno)) == 0;
}

/*
 * Raises an error if the key is not what it was when the run began: the texts
 * of keys, and the order that the ranges follow, would mean something else
 * now.  Integers only grow wider.
 */
void
walk_check_key_types(Walk *walk, ArrayType *types)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < Max(n, walk->nkeys); i++)
	{
		char	   *then = i < n ? TextDatumGetCString(elements[i]) : "missing";
		char	   *now = i < walk->nkeys ? column_text(&walk->columns[i]) : "missing";

		if (strcmp(then, now) == 0 ||
			(i < walk->nkeys && is_integer_column(then, walk->columns[i].attno) &&
			 is_integer_column(now, walk->columns[i].attno)))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the key of table %s has changed since the run began",
						walk->target_name),
				 errdetail("Part %d of the key was \"%s\" and is \"%s\".",
						   i + 1, then, now),
				 errhint("Start another run.")));
	}
}

/* Raises an error if the index of the walk was dropped or built anew. */
void
walk_check_index(Walk *walk)
{
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(walk->index)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the index of the walk of table %s was dropped",
						walk->target_name)));
}

/* ---- the condition of a range ---- */

/* The external parameter with that number, as a node. */
Param *
walk_param(int number, Oid type, int32 typmod)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = number;
	param->paramtype = type;
	param->paramtypmod = typmod;
	param->paramcollid = get_typcollation(type);
	param->location = -1;
	return param;
}

/* The parameter for a number that goes with a range, such as an offset. */
Node *
walk_number_param(Walk *walk)
{
	return (Node *) walk_param(2 * walk->nkeys + 1, INT8OID, -1);
}

/* The column as the operators of the index take it. */
static Node *
column_var(Walk *walk, int i, ParseState *pstate, ParseNamespaceItem *nsitem)
{
	WalkColumn *column = &walk->columns[i];
	Node	   *var = scanNSItemForColumn(pstate, nsitem, 0, column->name, -1);

	if (var == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("key column \"%s\" of table %s does not exist",
						column->name, walk->target_name)));
	if (exprType(var) != column->type || exprCollation(var) != column->column_collation)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the type of key column \"%s\" of table %s has changed",
						column->name, walk->target_name)));
	if (column->type != column->argtype)
		var = (Node *) makeRelabelType((Expr *) var, column->argtype, -1,
									   exprCollation(var), COERCE_IMPLICIT_CAST);

	/* or the parser would assign the collation of the column */
	if (OidIsValid(column->collation) && exprCollation(var) != column->collation)
	{
		CollateExpr *collate = makeNode(CollateExpr);

		collate->arg = (Expr *) var;
		collate->collOid = column->collation;
		collate->location = -1;
		var = (Node *) collate;
	}
	return var;
}

/* The first n columns compared with the parameters from first_param on. */
static Node *
compare_columns(Walk *walk, int n, int first_param, int strategy,
				ParseState *pstate, ParseNamespaceItem *nsitem)
{
	List	   *left = NIL,
			   *right = NIL,
			   *opnos = NIL,
			   *opfamilies = NIL,
			   *collations = NIL;
	RowCompareExpr *compare;

	for (int i = 0; i < n; i++)
	{
		WalkColumn *column = &walk->columns[i];
		Oid			opno = get_opfamily_member(column->opfamily, column->opcintype,
											   column->opcintype, strategy);

		if (!OidIsValid(opno))
			elog(ERROR, "missing operator %d(%u,%u) in opfamily %u", strategy,
				 column->opcintype, column->opcintype, column->opfamily);
		left = lappend(left, column_var(walk, i, pstate, nsitem));
		right = lappend(right, walk_param(first_param + i, column->argtype, -1));
		opnos = lappend_oid(opnos, opno);
		opfamilies = lappend_oid(opfamilies, column->opfamily);
		collations = lappend_oid(collations, column->collation);
	}

	if (n == 1)
	{
		Expr	   *op = make_opclause(linitial_oid(opnos), BOOLOID, false,
									   linitial(left), linitial(right),
									   InvalidOid, linitial_oid(collations));

		set_opfuncid((OpExpr *) op);
		return (Node *) op;
	}
	compare = makeNode(RowCompareExpr);
	compat_set_row_compare(compare, strategy);
	compare->opnos = opnos;
	compare->opfamilies = opfamilies;
	compare->inputcollids = collations;
	compare->largs = left;
	compare->rargs = right;
	return (Node *) compare;
}

/*
 * Append the condition of one end of the range: the first n columns against the
 * parameters from first_param on.  Of several columns the planner cannot tell how
 * much a comparison of rows leaves, nor which partitions, so the first one is
 * compared once more by itself.  It has to come second: a scan of the index
 * starts at the first condition that it can use.
 */
static List *
append_end(List *quals, Walk *walk, int n, int first_param, bool below, bool inclusive,
		   ParseState *pstate, ParseNamespaceItem *nsitem)
{
	int			wide = below ? BTLessEqualStrategyNumber : BTGreaterEqualStrategyNumber;
	int			narrow = below ? BTLessStrategyNumber : BTGreaterStrategyNumber;

	quals = lappend(quals, compare_columns(walk, n, first_param, inclusive ? wide : narrow,
										   pstate, nsitem));
	if (n > 1)
		quals = lappend(quals, compare_columns(walk, 1, first_param, wide, pstate, nsitem));
	return quals;
}

/*
 * The condition that a row lies in the range, analysed, with the columns of
 * nsitem.  NULL when the range is bounded at neither end.
 */
Node *
walk_range_expr(Walk *walk, const WalkRange *range,
				ParseState *pstate, ParseNamespaceItem *nsitem)
{
	List	   *quals = NIL;
	bool		down = walk->descending;

	if (range->nstart > 0)
		quals = append_end(quals, walk, range->nstart, 1, down, range->start_inclusive,
						   pstate, nsitem);
	if (range->nend > 0)
		quals = append_end(quals, walk, range->nend, walk->nkeys + 1, !down, true,
						   pstate, nsitem);
	if (quals == NIL)
		return NULL;
	return (Node *) make_ands_explicit(quals);
}

/* ---- parameters and keys ---- */

/*
 * A parameter list for the walk's queries, all null, the number included, with
 * room for so many others.
 */
ParamListInfo
walk_make_params(Walk *walk, int others)
{
	ParamListInfo params = makeParamList(2 * walk->nkeys + 1 + others);

	for (int i = 0; i <= 2 * walk->nkeys; i++)
	{
		params->params[i].value = (Datum) 0;
		params->params[i].isnull = true;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = i < 2 * walk->nkeys ?
			walk->columns[i % walk->nkeys].argtype : INT8OID;
	}
	return params;
}

/* The first n columns of the key into the parameters from first, 0-based. */
void
walk_set_columns(Walk *walk, ParamListInfo params, int first, const Datum *key, int n)
{
	for (int i = 0; i < n; i++)
	{
		params->params[first + i].value = key[i];
		params->params[first + i].isnull = false;
	}
}

/* The number that goes with the range. */
void
walk_set_number(Walk *walk, ParamListInfo params, int64 number)
{
	ParamExternData *p = &params->params[2 * walk->nkeys];

	p->value = Int64GetDatum(number);
	p->isnull = false;
}

/* Where the range starts.  The datums must live as long as they are used. */
void
walk_set_start(Walk *walk, ParamListInfo params, const Datum *key)
{
	walk_set_columns(walk, params, 0, key, walk->nkeys);
}

/* Where the range ends. */
void
walk_set_end(Walk *walk, ParamListInfo params, const Datum *key)
{
	walk_set_columns(walk, params, walk->nkeys, key, walk->nkeys);
}
