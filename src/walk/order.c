/*-------------------------------------------------------------------------
 *
 * order.c
 *	  The key and its order, in the text of our own queries.
 *
 * Operators are named with their schema, so that the search_path has no say in which they
 * are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "catalog/pg_operator.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "walk/order.h"

/* Append a column of the key as "relation.name", or the expression about the relation. */
static void
append_name(StringInfo buf, const Walk *walk, int i, const char *relation)
{
	const WalkColumn *column = &walk->columns[i];

	if (column->expr)
		appendStringInfo(buf, "(%s)", deparse_expression(column->expr,
														 deparse_context_for(relation, walk->target),
														 true, false));
	else
		appendStringInfo(buf, "%s.%s", relation, quote_identifier(column->name));
}

/* Append the columns of the key, comma-separated, as above. */
void
order_append_keys(StringInfo buf, Walk *walk, const char *relation)
{
	for (int i = 0; i < walk->nkeys; i++)
	{
		appendStringInfoString(buf, i > 0 ? ", " : "");
		append_name(buf, walk, i, relation);
	}
}

/* The operator that stands for "comes before", or behind, in an ascending order. */
static char *
operator_name(const WalkColumn *column, bool descending)
{
	Oid			opno = get_opfamily_member(column->opfamily, column->opcintype,
										   column->opcintype,
										   descending ? BTGreaterStrategyNumber :
										   BTLessStrategyNumber);
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(opno));
	Form_pg_operator op;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", opno);
	op = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(op->oprnamespace)),
					NameStr(op->oprname));
	ReleaseSysCache(tuple);
	return name;
}

/* Append a column, under the collation of the index. */
static void
append_column(StringInfo buf, const Walk *walk, int i, const char *relation)
{
	const WalkColumn *column = &walk->columns[i];

	append_name(buf, walk, i, relation);
	if (OidIsValid(column->collation) && column->collation != column->column_collation)
		appendStringInfo(buf, " COLLATE %s", generate_collation_name(column->collation));
}

/*
 * Append an ORDER BY along the index, ascending or descending.  A scan of a range of pages
 * has its own order, and none can be asked for.
 */
void
order_append(StringInfo buf, Walk *walk, const char *relation, bool descending)
{
	for (int i = 0; i < walk->nkeys && !walk->by_page; i++)
	{
		WalkColumn *column = &walk->columns[i];

		appendStringInfoString(buf, i > 0 ? ", " : " ORDER BY ");
		append_column(buf, walk, i, relation);
		appendStringInfo(buf, " USING %s NULLS %s", operator_name(column, descending),
						 column->nulls_first != descending ? "FIRST" : "LAST");
	}
}

/* Append the columns of the key, comma-separated, under the collations of the index. */
void
order_append_collated(StringInfo buf, Walk *walk, const char *relation)
{
	for (int i = 0; i < walk->nkeys; i++)
	{
		appendStringInfoString(buf, i > 0 ? ", " : "");
		append_column(buf, walk, i, relation);
	}
}
