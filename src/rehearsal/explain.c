/*-------------------------------------------------------------------------
 *
 * explain.c
 *	  The SQL function that shows how a definition would run.
 *
 * What there is to say is collected in a rehearsal (facts.c), which is undone, and
 * written down there in one of two ways: as lines of text, like EXPLAIN, or as a
 * JSON document.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "definition/definition.h"
#include "rehearsal/explain_json.h"
#include "rehearsal/explain_text.h"
#include "rehearsal/facts.h"
#include "rehearsal/frame.h"
#include "rehearsal/heldlocks.h"

PG_FUNCTION_INFO_V1(backfill_explain);

typedef struct Explain
{
	bool		measure;
	bool		is_json;
	List	   *locks;			/* of the caller's transaction, from before */
	StringInfoData out;			/* in the caller's memory */
} Explain;

/* In the rehearsal: collect, and write it down. */
static void
explain(Rehearsal *rehearsal, void *arg)
{
	Explain    *explain = (Explain *) arg;
	Facts	   *facts = facts_collect(rehearsal, explain->measure, explain->locks);

	if (explain->is_json)
		explain_json_append(&explain->out, facts);
	else
		explain_text_append(&explain->out, facts);
}

/* Whether the argument, NULL if there is none, asks for JSON. */
static bool
read_format(const char *format)
{
	if (format && pg_strcasecmp(format, "json") == 0)
		return true;
	if (format && pg_strcasecmp(format, "text") == 0)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 format ? errmsg("unrecognized format of backfill_explain: \"%s\"", format) :
			 errmsg("the format of backfill_explain cannot be null"),
			 errhint("It is \"text\" or \"json\".")));
}

/* A row of the result. */
static void
put_row(ReturnSetInfo *rsinfo, const char *text)
{
	Datum		value = CStringGetTextDatum(text);
	bool		isnull = false;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
}

/* backfill_explain(name, parameters, measure, format, target) */
Datum
backfill_explain(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Explain		result = {0};
	char	   *name = definition_name_arg(fcinfo);
	char	   *line;

	result.measure = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	result.is_json = read_format(PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	initStringInfo(&result.out);
	if (result.measure)
		result.locks = heldlocks_now();
	frame_rehearse("backfill_explain()", name, PG_ARGISNULL(4) ? InvalidOid : PG_GETARG_OID(4),
				   PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), explain, &result);

	if (result.is_json)
		put_row(rsinfo, result.out.data);
	else
	{
		for (char *rest = result.out.data; (line = strsep(&rest, "\n")) != NULL;)
		{
			if (line[0] != '\0')
				put_row(rsinfo, line);
		}
	}
	return (Datum) 0;
}
