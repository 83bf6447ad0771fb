/*-------------------------------------------------------------------------
 *
 * report.c
 *	  The SQL function that evaluates a run.
 *
 * What there is to say is collected first (collect.c), and written down in one of two
 * ways: as lines of text, like EXPLAIN, or as a JSON document.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "report/collect.h"
#include "report/report_json.h"
#include "report/report_text.h"
#include "run/find.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(backfill_report);

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
			 format ? errmsg("unrecognized format of backfill_report: \"%s\"", format) :
			 errmsg("the format of backfill_report cannot be null"),
			 errhint("It is \"text\" or \"json\".")));
}

/* The run that the first argument means.  Raises an error if there is none. */
static int64
find_run_arg(FunctionCallInfo fcinfo)
{
	StoreSession session;
	Oid			caller = GetUserId();
	FindKey		key;
	int64		id;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the id of a backfill run cannot be null")));
	key = find_key_arg(fcinfo);
	store_begin(&session);
	id = find_id(&session, &key, FIND_TO_WATCH, caller);
	store_end(&session);
	return id;
}

/* A row of the result. */
static void
put_row(ReturnSetInfo *rsinfo, const char *text)
{
	Datum		value = CStringGetTextDatum(text);
	bool		isnull = false;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
}

/* Each line of the text as a row; the text is changed. */
static void
put_lines(ReturnSetInfo *rsinfo, char *text)
{
	char	   *line;

	while ((line = strsep(&text, "\n")) != NULL)
	{
		if (line[0] != '\0')
			put_row(rsinfo, line);
	}
}

/* backfill_report(run, format) */
Datum
backfill_report(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		is_json = read_format(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	int64		id = find_run_arg(fcinfo);
	Evaluation *e;
	StringInfoData out;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	e = collect_evaluation(id, GetUserId());
	initStringInfo(&out);
	if (is_json)
	{
		report_json_append(&out, e);
		put_row(rsinfo, out.data);
	}
	else
	{
		report_text_append(&out, e);
		put_lines(rsinfo, out.data);
	}
	return (Datum) 0;
}
