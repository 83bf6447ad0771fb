/*-------------------------------------------------------------------------
 *
 * condition.c
 *	  The condition that the rows of a batch fulfil, as SQL text for clients.
 *
 * The condition of a range and the scope are analysed in a session of the owner's, as
 * for a batch inside of the server, and turned into text again by the server itself: every
 * name is qualified, whatever the client's search_path, and the parameters of the run are
 * in it as values.  Only the bounds are left open, as $1, $2, ... : a template, kept with
 * the run, into which a claim puts the keys of its batch.  That is pure text, and runs
 * nothing of the owner's.
 *
 * The relation is "batch" in it: ... FROM the_table AS batch WHERE <condition>.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/params.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "base/pin.h"
#include "walk/condition.h"
#include "walk/order.h"
#include "walk/statement.h"
#include "walk/walk.h"

#define RELATION "batch"

/* ---- the template ---- */

/* Put the values of the run's parameters in the place of references to them. */
static Node *
fill_parameters(Node *node, void *context)
{
	ParamListInfo params = (ParamListInfo) context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
	{
		Param	   *param = (Param *) node;
		ParamExternData *value = &params->params[param->paramid - 1];
		int16		length;
		bool		by_value;

		if (value->ptype != param->paramtype)
			return node;
		get_typlenbyval(param->paramtype, &length, &by_value);
		return (Node *) makeConst(param->paramtype, param->paramtypmod, param->paramcollid,
								  length, value->value, value->isnull, by_value);
	}
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, fill_parameters, context, 0);
	return expression_tree_mutator(node, fill_parameters, context);
}

/*
 * The parameters of the run alone: the bounds, which come before them, have a type that no
 * reference to them has.
 */
static ParamListInfo
run_parameters(Walk *walk, const Parameters *parameters)
{
	ParamListInfo params = statement_params(walk, parameters);

	for (int i = 0; i < 2 * walk->nkeys + 1; i++)
		params->params[i].ptype = InvalidOid;
	return params;
}

/* The next place of a bound in the text, outside of what is quoted; NULL if there is none. */
static const char *
next_place(const char *p)
{
	for (; *p; p++)
	{
		if (*p == '\'' || *p == '"')
		{
			const char	quote = *p;

			/* a quote within is doubled, and comes as two quoted texts */
			for (p++; *p && *p != quote; p++);
			if (*p == '\0')
				return NULL;
		}
		else if (*p == '$' && p[1] >= '0' && p[1] <= '9')
			return p;
	}
	return NULL;
}

/*
 * Say of which type each bound is: as a literal it would be of none.  Without a length:
 * "character" alone would be one of 1.
 */
static char *
add_types(Walk *walk, const char *text)
{
	StringInfoData buf;
	const char *place;

	initStringInfo(&buf);
	while ((place = next_place(text)) != NULL)
	{
		char	   *end;
		long		number = strtol(place + 1, &end, 10);
		Oid			type = walk->columns[(number - 1) % walk->nkeys].argtype;

		appendBinaryStringInfo(&buf, text, end - text);
		appendStringInfo(&buf, "::%s", format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
		text = end;
	}
	appendStringInfoString(&buf, text);
	return buf.data;
}

static char *
make_template(Walk *walk, RangeShape shape, const char *scope, const Parameters *parameters)
{
	WalkRange	range = walk_range(walk, shape);
	Statement  *statement = statement_prepare_own(psprintf("SELECT FROM %s AS " RELATION " WHERE %s",
														   walk->target_name, STATEMENT_RANGE),
												  walk, &range, scope, parameters);
	Query	   *query = linitial_node(Query, statement_queries(statement));
	Node	   *condition = fill_parameters(query->jointree->quals,
											run_parameters(walk, parameters));
	char	   *text;
	int			nest = pin_begin(true);

	/* a text that the client reads under its own settings */
	(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	text = deparse_expression(condition, deparse_context_for(RELATION, walk->target), true, false);
	text = add_types(walk, text);
	pin_end(nest);
	statement_drop(statement);
	return text;
}

/*
 * The conditions of batches, by the shape of their range, with the places of the bounds; behind
 * them the columns of the key.
 * Names in the scope are resolved under the current search_path, as the current user.
 */
ArrayType *
condition_templates(Walk *walk, const char *scope, const Parameters *parameters)
{
	Datum		texts[RANGE_SHAPES + 1];
	StringInfoData columns;

	initStringInfo(&columns);
	order_append_keys(&columns, walk, RELATION);
	texts[RANGE_SHAPES] = CStringGetTextDatum(columns.data);
	for (int shape = 0; shape < RANGE_SHAPES; shape++)
		texts[shape] = CStringGetTextDatum(shape < WALK_SHAPES(walk) ?
										   make_template(walk, shape, scope, parameters) : "false");
	return construct_array(texts, RANGE_SHAPES + 1, TEXTOID, -1, false, TYPALIGN_INT);
}

/* ---- filling it in ---- */

/* The bound with that number, from 1, as a literal. */
static char *
bound_literal(int number, Datum *start, bool *start_nulls, Datum *end, bool *end_nulls, int nkeys)
{
	int			i = (number - 1) % nkeys;
	bool		at_end = number > nkeys;

	if (at_end ? end_nulls[i] : start_nulls[i])
		return pstrdup("NULL");
	return quote_literal_cstr(TextDatumGetCString(at_end ? end[i] : start[i]));
}

/* The condition of a batch with those bounds.  Touches no table and runs no function of a user's. */
char *
condition_fill(ArrayType *templates, RangeShape shape, ArrayType *start_key, ArrayType *end_key)
{
	StringInfoData buf;
	Datum	   *texts;
	Datum	   *start;
	Datum	   *end;
	bool	   *start_nulls;
	bool	   *end_nulls;
	int			n;
	int			nkeys;
	const char *template;
	const char *place;

	deconstruct_array(templates, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	deconstruct_array(start_key, TEXTOID, -1, false, TYPALIGN_INT, &start, &start_nulls, &n);
	deconstruct_array(end_key, TEXTOID, -1, false, TYPALIGN_INT, &end, &end_nulls, &nkeys);

	/* the mark that rows with a null come behind is no column */
	nkeys = Min(n, nkeys);
	template = TextDatumGetCString(texts[shape]);
	initStringInfo(&buf);
	while ((place = next_place(template)) != NULL)
	{
		char	   *rest;
		long		number = strtol(place + 1, &rest, 10);

		appendBinaryStringInfo(&buf, template, place - template);
		appendStringInfoString(&buf, bound_literal((int) number, start, start_nulls,
												   end, end_nulls, nkeys));
		template = rest;
	}
	appendStringInfoString(&buf, template);
	return buf.data;
}

/* That condition, for the rows of a list of keys (ArrayType) alone. */
char *
condition_for_keys(ArrayType *templates, const char *condition, List *keys)
{
	StringInfoData buf;
	Datum	   *texts;
	int			n;
	ListCell   *lc;

	deconstruct_array(templates, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	initStringInfo(&buf);
	appendStringInfo(&buf, "(%s AND (%s) IN (", condition, TextDatumGetCString(texts[RANGE_SHAPES]));
	foreach(lc, keys)
	{
		Datum	   *values;

		deconstruct_array(lfirst(lc), TEXTOID, -1, false, TYPALIGN_INT, &values, NULL, &n);
		appendStringInfoString(&buf, lc == list_head(keys) ? "(" : ", (");
		for (int i = 0; i < n; i++)
			appendStringInfo(&buf, "%s%s", i == 0 ? "" : ", ",
							 quote_literal_cstr(TextDatumGetCString(values[i])));
		appendStringInfoChar(&buf, ')');
	}
	appendStringInfoString(&buf, "))");
	return buf.data;
}

/* The columns of the key, to be put behind ORDER BY. */
char *
condition_order(ArrayType *templates)
{
	Datum	   *texts;
	int			n;

	deconstruct_array(templates, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	return TextDatumGetCString(texts[RANGE_SHAPES]);
}
