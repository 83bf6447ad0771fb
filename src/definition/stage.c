/*-------------------------------------------------------------------------
 *
 * stage.c
 *	  What is run once in a run, before and after its batches, as a text.
 *
 * A definition may carry SQL that is run once before the first batch, "prepare":
 * an index for the time of the run, a second table, a check that raises; and SQL
 * that is run once when every batch is done and verified, "finish": VALIDATE
 * CONSTRAINT, SET NOT NULL, CREATE INDEX CONCURRENTLY.  The rules of both are the
 * same.  Here they are parsed and looked at; what runs them is engine/stage.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "mb/pg_wchar.h"
#include "parser/parser.h"
#include "parser/scansup.h"

#include "base/position.h"
#include "definition/stage.h"

/* So much of a statement is shown while it runs. */
#define STEP_TEXT_BYTES		80

/* The name of a stage, as the arguments and columns have it. */
const char *
stage_name(Stage stage)
{
	return stage == STAGE_PREPARE ? "prepare" : "finish";
}

/*
 * The statements of the text, as raw trees.  Raises an error, which points into
 * the text, if it cannot be parsed or would control transactions.
 */
List *
stage_parse(Stage stage, const char *text)
{
	PositionText context = {stage_name(stage), text};
	ErrorContextCallback callback;
	List	   *raws;
	ListCell   *lc;

	callback.callback = position_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	raws = raw_parser(text, RAW_PARSE_DEFAULT);
	foreach(lc, raws)
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);

		if (IsA(raw->stmt, TransactionStmt))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("\"%s\" of a backfill cannot control transactions", stage_name(stage)),
					 errdetail("Each statement is a transaction of its own."),
					 errposition(pg_mbstrlen_with_len(text, Max(raw->stmt_location, 0)) + 1)));
		if (IsA(raw->stmt, CopyStmt) && ((CopyStmt *) raw->stmt)->filename == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("\"%s\" of a backfill cannot copy to or from a client", stage_name(stage)),
					 errposition(pg_mbstrlen_with_len(text, Max(raw->stmt_location, 0)) + 1)));
	}
	error_context_stack = callback.previous;
	return raws;
}

/* Whether there is any statement in the text, which may be NULL. */
bool
stage_has_statements(Stage stage, const char *text)
{
	return text && stage_parse(stage, text) != NIL;
}

/* Whether the option CONCURRENTLY is among those of a statement. */
static bool
has_concurrently(List *options)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "concurrently") == 0)
			return defGetBoolean(option);
	}
	return false;
}

/* Whether the statement ends transactions itself, and may leave half of it done. */
bool
stage_ends_transactions(Node *stmt)
{
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_IndexStmt:
			return ((IndexStmt *) stmt)->concurrent;
		case T_DropStmt:
			return ((DropStmt *) stmt)->concurrent;
		case T_ReindexStmt:
			return has_concurrently(((ReindexStmt *) stmt)->params);
		case T_AlterTableStmt:
			foreach(lc, ((AlterTableStmt *) stmt)->cmds)
			{
				AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

				if (cmd->subtype == AT_DetachPartition &&
					castNode(PartitionCmd, cmd->def)->concurrent)
					return true;
			}
			return false;
		case T_VacuumStmt:
		case T_CallStmt:
		case T_DoStmt:
			return true;
		default:
			return false;
	}
}

/*
 * Whether the statement of the text after so many may be tried again when it has
 * failed: nothing of it is left then.
 */
bool
stage_may_repeat(const char *text, int step)
{
	List	   *raws = raw_parser(text, RAW_PARSE_DEFAULT);

	return step >= list_length(raws) ||
		!stage_ends_transactions(list_nth_node(RawStmt, raws, step)->stmt);
}

/* The statement without what stands before it: blanks and comments. */
static const char *
skip_to_statement(const char *text, const char *end)
{
	while (text < end)
	{
		const char *found = NULL;

		if (scanner_isspace(*text))
			text++;
		else if (end - text >= 2 && strncmp(text, "--", 2) == 0)
			text = (found = memchr(text, '\n', end - text)) ? found : end;
		else if (end - text >= 2 && strncmp(text, "/*", 2) == 0)
			text = (found = strstr(text, "*/")) && found < end ? found + 2 : end;
		else
			break;
	}
	return text;
}

/*
 * The statement of the text after so many, for people: "finishing 2/3: CREATE
 * INDEX ...", or "preparing ...", in one line that is not long.  NULL if there is
 * none.
 */
char *
stage_step_text(Stage stage, const char *text, int step)
{
	List	   *raws = raw_parser(text, RAW_PARSE_DEFAULT);
	StringInfoData buf;
	RawStmt    *raw;
	const char *start;
	const char *end;
	int			length;

	if (step >= list_length(raws))
		return NULL;
	raw = list_nth_node(RawStmt, raws, step);
	start = text + Max(raw->stmt_location, 0);
	end = raw->stmt_len > 0 ? start + raw->stmt_len : start + strlen(start);
	start = skip_to_statement(start, end);
	length = pg_mbcliplen(start, end - start, STEP_TEXT_BYTES);
	initStringInfo(&buf);
	appendStringInfo(&buf, "%s %d/%d: ", stage == STAGE_PREPARE ? "preparing" : "finishing",
					 step + 1, list_length(raws));
	for (int i = 0; i < length; i++)
	{
		if (!scanner_isspace(start[i]))
			appendStringInfoChar(&buf, start[i]);
		else if (buf.data[buf.len - 1] != ' ')
			appendStringInfoChar(&buf, ' ');
	}
	while (buf.data[buf.len - 1] == ' ')
		buf.data[--buf.len] = '\0';
	if (length < end - start)
		appendStringInfoString(&buf, "...");
	return buf.data;
}
