/*-------------------------------------------------------------------------
 *
 * within.c
 *	  Whether a value lies between two bounds, without a word to the planner of how many do.
 *
 * What imply.c adds to a statement follows from other conditions of it.  The planner would take two
 * comparisons for independent of these, and the rows that remain, and those of all joins, for fewer than they are: in a
 * statement about several tables, or with old statistics, for one, which it would read others in full for
 * again and again.  A call of this function leaves every estimate as it was, and yet is an index
 * condition where there is an index.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "base/compat.h"

/* The arguments of the function. */
enum
{
	VALUE, LOW, HIGH, AT_LEAST, AT_MOST, NARGS
};

/* What compares the value with a bound, looked up once for each place where the function is called. */
typedef struct Comparisons
{
	Oid			operators[2];
	FmgrInfo	functions[2];
} Comparisons;

PG_FUNCTION_INFO_V1(backfill_within);
PG_FUNCTION_INFO_V1(backfill_within_support);

/*
 * Look up the operator, which has to be one of those that order values, for the types of the arguments: whoever
 * may call the function must not have anything else called with them.
 */
static void
look_up(FunctionCallInfo fcinfo, Oid operator, int bound, FmgrInfo *function)
{
	Oid			left = InvalidOid;
	Oid			right = InvalidOid;

	if (OidIsValid(get_opcode(operator)))
		op_input_types(operator, &left, &right);
	if (!OidIsValid(left) ||
		!IsBinaryCoercible(get_fn_expr_argtype(fcinfo->flinfo, VALUE), left) ||
		!IsBinaryCoercible(get_fn_expr_argtype(fcinfo->flinfo, bound), right) ||
		!compat_orders(operator))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("operator %s does not order the values that are to be compared",
						DatumGetCString(DirectFunctionCall1(regoperatorout, ObjectIdGetDatum(operator))))));
	fmgr_info_cxt(get_opcode(operator), function, fcinfo->flinfo->fn_mcxt);
}

/*
 * within(value, low, high, at_least, at_most): whether the first operator holds for value and low, and the second
 * for value and high.
 */
Datum
backfill_within(PG_FUNCTION_ARGS)
{
	Comparisons *comparisons = fcinfo->flinfo->fn_extra;
	Oid			operators[2] = {PG_GETARG_OID(AT_LEAST), PG_GETARG_OID(AT_MOST)};

	if (comparisons == NULL || memcmp(comparisons->operators, operators, sizeof(operators)) != 0)
	{
		comparisons = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Comparisons));
		for (int i = 0; i < 2; i++)
		{
			look_up(fcinfo, operators[i], LOW + i, &comparisons->functions[i]);
			comparisons->operators[i] = operators[i];
		}
		fcinfo->flinfo->fn_extra = comparisons;
	}
	for (int i = 0; i < 2; i++)
	{
		if (!DatumGetBool(FunctionCall2Coll(&comparisons->functions[i], PG_GET_COLLATION(),
											PG_GETARG_DATUM(VALUE), PG_GETARG_DATUM(LOW + i))))
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/* The comparisons of the call that an index of that operator family can do, as conditions; NIL if it cannot. */
static List *
index_conditions(SupportRequestIndexCondition *request)
{
	FuncExpr   *call = (FuncExpr *) request->node;
	List	   *conditions = NIL;

	if (!IsA(call, FuncExpr) || list_length(call->args) != NARGS || request->indexarg != VALUE ||
		(OidIsValid(request->indexcollation) && request->indexcollation != call->inputcollid))
		return NIL;
	for (int i = 0; i < 2; i++)
	{
		Const	   *operator = list_nth(call->args, AT_LEAST + i);
		Node	   *bound = list_nth(call->args, LOW + i);

		if (!IsA(operator, Const) || operator->constisnull ||
			!op_in_opfamily(DatumGetObjectId(operator->constvalue), request->opfamily) ||
			!is_pseudo_constant_for_index(request->root, bound, request->index))
			return NIL;
		conditions = lappend(conditions,
							 make_opclause(DatumGetObjectId(operator->constvalue), BOOLOID, false,
										   linitial(call->args), (Expr *) bound, InvalidOid,
										   request->indexcollation));
	}
	return conditions;
}

/* What the planner may know of within. */
Datum
backfill_within_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestSelectivity))
	{
		((SupportRequestSelectivity *) request)->selectivity = 1;
		PG_RETURN_POINTER(request);
	}
	if (IsA(request, SupportRequestIndexCondition))
	{
		List	   *conditions = index_conditions((SupportRequestIndexCondition *) request);

		((SupportRequestIndexCondition *) request)->lossy = false;
		PG_RETURN_POINTER(conditions);
	}
	PG_RETURN_POINTER(NULL);
}
