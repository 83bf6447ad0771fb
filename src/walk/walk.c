/*-------------------------------------------------------------------------
 *
 * walk.c
 *	  The key of a walk, and ranges of it as conditions.
 *
 * A walk follows one btree index of the target, or the first columns of it, from one end
 * to the other, in ranges (start, end].  Start and end are in the direction of
 * the walk, so that nobody else has to ask which it is.  Rows that share a key are in one
 * range.  Rows with a null in the key are a last range of their own.
 *
 * A walk by pages follows the places of the rows in the table, as if there were an index
 * on ctid.  Rows that are changed move, so it is for those only who come again until nothing
 * is left.
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
#include "access/tableam.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_relation.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "settings/setting.h"
#include "walk/keyindex.h"
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

/*
 * Raises an error if a child is not here.  Partitions are what their parent is;
 * a column may be null in children, though it is not in the parent.
 */
static void
check_children(Walk *walk, Relation rel)
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

			if (walk->columns[i].expr == NULL && !compat_is_not_null(RelationGetDescr(child), attno))
				walk->columns[i].nullable = true;
		}
		table_close(child, NoLock);
	}
}

/*
 * Raises an error if a partition is on another server: what a worker changes there, and its
 * record here, are not one transaction.  Clients may walk over such partitions, along an index
 * that is not unique, which is all that the server allows there.
 */
void
walk_check_is_here(const Walk *walk)
{
	ListCell   *lc;

	if (!walk->has_children)
		return;
	foreach(lc, find_all_inheritors(walk->target, AccessShareLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("cannot backfill \"%s\"", get_rel_name(walk->target)),
					 errdetail("Its partition \"%s\" is a foreign table: a change there and its record here cannot be one transaction.",
							   get_rel_name(lfirst_oid(lc))),
					 errhint("Run the backfill in the database where the partition is, or leave out the statement and have clients do the work.")));
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
		case TIDOID:
			return true;
		default:
			return false;
	}
}

/* What the types of a column lead to. */
static void
open_type(Walk *walk, WalkColumn *column)
{
	Oid			func;
	bool		varlena;

	getTypeOutputInfo(column->argtype, &func, &varlena);
	fmgr_info(func, &column->output);
	getTypeInputInfo(column->argtype, &func, &column->ioparam);
	fmgr_info(func, &column->input);
	get_typlenbyval(column->argtype, &column->typlen, &column->typbyval);
	if (!text_is_fixed(column->argtype))
		walk->pin = true;
}

/* The first column of the index, which is an expression: it may be null. */
static void
open_expression(WalkColumn *column, Relation rel, Relation index)
{
	column->expr = copyObject(linitial(RelationGetIndexExpressions(index)));
	column->name = deparse_expression(column->expr,
									  deparse_context_for(RelationGetRelationName(rel),
														  RelationGetRelid(rel)), false, false);
	column->type = exprType(column->expr);
	column->column_collation = exprCollation(column->expr);
	pull_varattnos(column->expr, 1, &column->attnos);
}

static void
open_column(Walk *walk, WalkColumn *column, Relation rel, Relation index, int i)
{
	int16		option = index->rd_indoption[i];

	column->attno = index->rd_index->indkey.values[i];
	if (column->attno == 0)
		open_expression(column, rel, index);
	else
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), column->attno - 1);

		column->name = pstrdup(NameStr(att->attname));
		column->type = att->atttypid;
		column->column_collation = att->attcollation;
	}
	column->collation = index->rd_indcollation[i];
	column->opfamily = index->rd_opfamily[i];
	column->opcintype = index->rd_opcintype[i];
	column->argtype = IsPolymorphicType(column->opcintype) || column->opcintype == RECORDOID ?
		getBaseType(column->type) : column->opcintype;
	column->nullable = column->attno == 0 ||
		!compat_is_not_null(RelationGetDescr(rel), column->attno);

	/* an ascending scan runs backward over a descending index */
	column->nulls_first = ((option & INDOPTION_NULLS_FIRST) != 0) !=
		((option & INDOPTION_DESC) != 0);
	open_type(walk, column);
}

/* ---- a walk ---- */

/* Along an index. */
static void
open_index(Walk *walk, Relation rel, Oid index_oid, const RunSettings *settings)
{
	Relation	index = index_open(index_oid, AccessShareLock);
	Form_pg_index form = index->rd_index;

	walk->index = index_oid;
	walk->nkeys = keyindex_columns(rel, index, settings);
	walk->is_shared = settings->share_by && keyindex_begins_with(rel, index, settings->share_by);
	for (int i = 0; i < walk->nkeys; i++)
		open_column(walk, &walk->columns[i], rel, index, i);
	walk->predicate = copyObject(RelationGetIndexPredicate(index));
	walk->distinct = settings->distinct != 0;
	walk->may_repeat = !form->indisunique || walk->nkeys < form->indnkeyatts;
	if (rel->rd_rel->relkind == RELKIND_RELATION && walk->has_children)
	{
		walk->may_repeat = true;
		check_children(walk, rel);
	}
	for (int i = 0; i < walk->nkeys; i++)
		walk->has_nulls = walk->has_nulls || walk->columns[i].nullable;
	if (walk->distinct)
		walk->may_repeat = false;
	index_close(index, NoLock);
}

/* Along the places of the rows. */
static void
open_pages(Walk *walk, Relation rel, const RunSettings *settings)
{
	WalkColumn *column = &walk->columns[0];
	Oid			opclass = GetDefaultOpClass(TIDOID, BTREE_AM_OID);

	if (rel->rd_rel->relkind != RELKIND_RELATION || walk->has_children)
		refuse_target(rel, "It has partitions or children, whose pages have no common order.",
					  "Name an index in \"key\", or backfill each of them.");
	if (rel->rd_tableam->scan_set_tidrange == NULL)
		refuse_target(rel, "Its access method cannot read ranges of pages.",
					  "Name an index in \"key\".");
	if (walk->descending || settings->group_by != NIL || settings->distinct)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backfill setting \"%s\" needs an index",
						walk->descending ? "direction" : settings->distinct ? "distinct" : "group_by"),
				 errdetail("The pages of a table are walked in their own order."),
				 errhint("Name an index in \"key\".")));
	walk->by_page = true;
	walk->comes_again = settings->from == NIL && settings->to == NIL && settings->limit == 0;
	walk->nkeys = 1;
	column->name = pstrdup(KEY_OF_PAGES);
	column->attno = SelfItemPointerAttributeNumber;
	column->type = column->argtype = TIDOID;
	column->opfamily = get_opclass_family(opclass);
	column->opcintype = get_opclass_input_type(opclass);
	open_type(walk, column);
}

/* The walk of the target, without a way yet; *rel is the target, open and locked. */
static Walk *
open_target(Oid target, Relation *rel)
{
	Walk	   *walk = palloc0(sizeof(Walk));

	*rel = try_relation_open(target, AccessShareLock);
	if (*rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the target table of the backfill was dropped"),
				 errdetail("There is no relation with OID %u.", target)));
	check_target(*rel);
	walk->target = target;
	walk->target_name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(*rel)),
												   RelationGetRelationName(*rel));
	walk->has_children = (*rel)->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		has_subclass(target);
	return walk;
}

/*
 * The walk of the target along its primary key, the index named, or its pages.  Raises an
 * error that says why when there is no such walk.  Allocated in the current
 * memory context; the target stays locked (ACCESS SHARE) until the end of the
 * transaction.
 */
Walk *
walk_open(Oid target, const char *key, const RunSettings *settings)
{
	Relation	rel;
	Walk	   *walk = open_target(target, &rel);
	Oid			index;

	walk->descending = settings->direction == WALK_DESCENDING;
	index = keyindex_find(rel, key);
	if (OidIsValid(index))
		open_index(walk, rel, index, settings);
	else if (strcmp(key, KEY_OF_PAGES) == 0)
		open_pages(walk, rel, settings);
	else
		keyindex_refuse_name(rel, key);
	relation_close(rel, NoLock);
	return walk;
}

/*
 * The same for pages of a source, whose records have the type of the target's rows: its key
 * is the ordinal of a record in its page.
 */
Walk *
walk_open_source(Oid target)
{
	Relation	rel;
	Walk	   *walk = open_target(target, &rel);
	WalkColumn *column = &walk->columns[0];

	walk->by_source = true;
	walk->nkeys = 1;
	column->name = pstrdup("ordinal");
	column->type = column->argtype = column->opcintype = INT8OID;
	column->opfamily = get_opclass_family(GetDefaultOpClass(INT8OID, BTREE_AM_OID));
	open_type(walk, column);
	relation_close(rel, NoLock);
	return walk;
}

/* What a key column is, as text: number, type and collation, and its order unless it is that of the type. */
static char *
column_text(WalkColumn *column)
{
	Oid			opclass = GetDefaultOpClass(column->argtype, BTREE_AM_OID);
	bool		usual = OidIsValid(opclass) && get_opclass_family(opclass) == column->opfamily;

	return psprintf("%s %s%s%s", column->expr ? psprintf("expression %s", column->name) :
					psprintf("column %d", column->attno),
					format_type_be_qualified(column->argtype),
					OidIsValid(column->collation) ?
					psprintf(" collation %u", column->collation) : "",
					usual ? "" : psprintf(" order %u", column->opfamily));
}

/* The names of the key's columns, as an array of texts. */
ArrayType *
walk_key_names(const Walk *walk)
{
	Datum		names[INDEX_MAX_KEYS];

	for (int i = 0; i < walk->nkeys; i++)
		names[i] = CStringGetTextDatum(walk->columns[i].name);
	return construct_array(names, walk->nkeys, TEXTOID, -1, false, TYPALIGN_INT);
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
	if (!walk->by_page && !walk->by_source &&
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(walk->index)))
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

/* The expression that the column of the index is, of a relation so many queries up. */
static Node *
expression_of(const WalkColumn *column, ParseState *pstate, ParseNamespaceItem *nsitem, int levels_up)
{
	Node	   *expr = copyObject(column->expr);
	ListCell   *lc;

	ChangeVarNodes(expr, 1, nsitem->p_rtindex, 0);
	if (levels_up > 0)
		IncrementVarSublevelsUp(expr, levels_up, 0);
	foreach(lc, pull_var_clause(expr, 0))
		markVarForSelectPriv(pstate, lfirst_node(Var, lc));
	return expr;
}

/* The column, of a relation so many queries up, as the operators of the index take it. */
static Node *
column_var(Walk *walk, int i, ParseState *pstate, ParseNamespaceItem *nsitem, int levels_up)
{
	WalkColumn *column = &walk->columns[i];
	Node	   *var = column->expr ? expression_of(column, pstate, nsitem, levels_up) :
		scanNSItemForColumn(pstate, nsitem, levels_up, column->name, -1);

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

/* The parameters from first_param on, n of them. */
static List *
make_params(Walk *walk, int n, int first_param)
{
	List	   *params = NIL;

	for (int i = 0; i < n; i++)
		params = lappend(params, walk_param(first_param + i, walk->columns[i].argtype, -1));
	return params;
}

/* The first columns compared with the values, as many as there are. */
static Node *
compare_columns(Walk *walk, List *right, int strategy,
				ParseState *pstate, ParseNamespaceItem *nsitem)
{
	int			n = list_length(right);
	List	   *left = NIL,
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
		left = lappend(left, column_var(walk, i, pstate, nsitem, 0));
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

	quals = lappend(quals, compare_columns(walk, make_params(walk, n, first_param),
										   inclusive ? wide : narrow, pstate, nsitem));
	if (n > 1)
		quals = lappend(quals, compare_columns(walk, make_params(walk, 1, first_param), wide,
											   pstate, nsitem));
	return quals;
}

static Node *
or_of(List *quals)
{
	return list_length(quals) == 1 ? linitial(quals) : (Node *) makeBoolExpr(OR_EXPR, quals, -1);
}

/* Append, for each column that may be null, that it is or is not. */
static List *
append_null_tests(List *quals, Walk *walk, NullTestType type, ParseState *pstate,
				  ParseNamespaceItem *nsitem)
{
	for (int i = 0; i < walk->nkeys; i++)
	{
		NullTest   *test = makeNode(NullTest);

		if (!walk->columns[i].nullable)
			continue;
		test->arg = (Expr *) column_var(walk, i, pstate, nsitem, 0);
		test->nulltesttype = type;
		test->argisrow = false;
		test->location = -1;
		quals = lappend(quals, test);
	}
	return quals;
}

/*
 * The condition that a row lies in the range, analysed, with the columns of
 * nsitem.  NULL when all rows do.  The rows that an index leaves out lie in no range of a walk
 * along it.
 */
Node *
walk_range_expr(Walk *walk, const WalkRange *range,
				ParseState *pstate, ParseNamespaceItem *nsitem)
{
	List	   *quals = NIL;
	bool		down = walk->descending;

	if (range->everything)
		return NULL;
	if (range->nulls)
	{
		List	   *tests = append_null_tests(NIL, walk, IS_NULL, pstate, nsitem);

		/* none, if the columns cannot be null any more */
		quals = lappend(quals, tests == NIL ? (Node *) makeBoolConst(false, false) :
						or_of(tests));
	}
	else
	{
		if (range->nstart > 0)
			quals = append_end(quals, walk, range->nstart, 1, down, range->start_inclusive,
							   pstate, nsitem);
		if (range->nend > 0)
			quals = append_end(quals, walk, range->nend, walk->nkeys + 1, !down,
							   !range->end_exclusive,
							   pstate, nsitem);

		/* the comparison of a single column says so */
		if (walk->nkeys > 1 || quals == NIL)
			quals = append_null_tests(quals, walk, IS_NOT_NULL, pstate, nsitem);
	}
	if (walk->predicate != NIL)
		quals = list_concat(quals, walk_predicate(walk, nsitem));
	if (quals == NIL)
		return NULL;
	return (Node *) make_ands_explicit(quals);
}

/*
 * The condition that a row comes behind the key that the other relation, so many queries up,
 * has in columns of the same names; ascending or descending.
 */
Node *
walk_beyond_expr(Walk *walk, bool descending, ParseState *pstate, ParseNamespaceItem *nsitem,
				 ParseNamespaceItem *other, int levels_up)
{
	List	   *key = NIL;

	for (int i = 0; i < walk->nkeys; i++)
		key = lappend(key, column_var(walk, i, pstate, other, levels_up));
	return compare_columns(walk, key,
						   descending ? BTLessStrategyNumber : BTGreaterStrategyNumber,
						   pstate, nsitem);
}

/* The condition of the walk's index, about the columns of nsitem, as a list of clauses. */
List *
walk_predicate(Walk *walk, ParseNamespaceItem *nsitem)
{
	List	   *predicate = copyObject(walk->predicate);

	ChangeVarNodes((Node *) predicate, 1, nsitem->p_rtindex, 0);
	return predicate;
}

/* The shape of the ranges that include their start, or do not, or are those of the nulls. */
WalkRange
walk_range(const Walk *walk, RangeShape shape)
{
	return (WalkRange) {
		.nstart = walk->nkeys,
		.start_inclusive = shape == RANGE_FROM,
		.nend = walk->nkeys,
		.nulls = shape == RANGE_NULLS
	};
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
			walk->columns[i % walk->nkeys].argtype : walk->by_source ? JSONBOID : INT8OID;
	}
	return params;
}

/*
 * The first n columns of the key into the parameters from first, 0-based.  What is missing of
 * a key without values is null.
 */
void
walk_set_columns(Walk *walk, ParamListInfo params, int first, const Datum *key, int n)
{
	for (int i = 0; i < n; i++)
	{
		params->params[first + i].value = key[i];
		params->params[first + i].isnull = !walk->columns[i].typbyval &&
			DatumGetPointer(key[i]) == NULL;
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
