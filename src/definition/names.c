/*-------------------------------------------------------------------------
 *
 * names.c
 *	  Names in the texts of a generic definition.
 *
 * A generic definition is given its target, and the names of columns and of other
 * tables, with each run.  Its texts refer to them by {x}, where x is a parameter of the
 * type name or regclass, and by {target}.  When a run begins they are bound: each
 * reference becomes the name in double quotes, that of a table with its schema.  The
 * run has the bound texts, and knows nothing of references.
 *
 * This is no substitution of text.  Where a reference stands is what PostgreSQL's own
 * scanner says: in a literal, a quoted identifier or a comment, braces are characters.
 * No statement has a name in braces, so that nothing else can be meant by it.  What
 * comes into its place is one identifier to the same scanner, whatever the name holds:
 *
 * - it is always quoted, also where it need not be, so that it is never a keyword;
 * - it never touches what could take its quotes for another thing: a quote, or U&;
 * - a literal ends in the same place with standard_conforming_strings on and off, or the
 *	 definition is refused: a worker may read the text under another value than this
 *	 session, and would take a name for the inside of a literal, or the other way round.
 *
 * So a bound statement has the structure that the owner has written, and whoever may
 * give the names can change nothing but which columns and tables it is about.
 *
 * Everything here runs as the owner of the definition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "parser/scanner.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/limit.h"
#include "base/nearest.h"
#include "base/position.h"
#include "definition/stage.h"
#include "definition/names.h"
#include "walk/graft.h"

/* What refers to the table that a run is given; no parameter may be called so. */
#define NAMES_TARGET	"target"

/* A reference: bytes of the text, braces included, and what stands in them. */
typedef struct Reference
{
	int			from;
	int			to;
	char	   *name;
	bool		is_quoted;
} Reference;

/* How a reference is written when it is bound. */
typedef struct Binder
{
	const DefinitionInfo *def;
	const Parameters *parameters;
	bool		columns_only;	/* a name must be that of a column */
} Binder;

/* ---- tables ---- */

/* The identifier, always quoted. */
static char *
quoted(const char *name)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '"');
	for (const char *c = name; *c; c++)
	{
		if (*c == '"')
			appendStringInfoChar(&buf, '"');
		appendStringInfoChar(&buf, *c);
	}
	appendStringInfoChar(&buf, '"');
	return buf.data;
}

/* The table of that name, under the current search_path. */
Oid
names_table(const char *text)
{
	List	   *name = textToQualifiedNameList(cstring_to_text(text));

	return RangeVarGetRelid(makeRangeVarFromNameList(name), NoLock, false);
}

/* The name of the table, with its schema, always quoted. */
char *
names_of_table(Oid table)
{
	char	   *name = get_rel_name(table);
	char	   *schema = get_namespace_name(get_rel_namespace(table));

	/* it may have been dropped in this moment */
	if (name == NULL || schema == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("there is no table with OID %u", table)));
	return psprintf("%s.%s", quoted(schema), quoted(name));
}

/* The same of a name that somebody has written; with a schema, the table need not be there. */
char *
names_as_written(const char *text)
{
	List	   *name = textToQualifiedNameList(cstring_to_text(text));

	if (list_length(name) == 2)
		return psprintf("%s.%s", quoted(strVal(linitial(name))), quoted(strVal(lsecond(name))));
	return names_of_table(names_table(text));
}

/* ---- references in a text ---- */

/* In an error: it is at that byte of the text; at none if the text is NULL. */
static int
error_at(const char *text, int location)
{
	return text ? errposition(pg_mbstrlen_with_len(text, location) + 1) : 0;
}

static bool
is_identifier(const char *text, int length)
{
	for (int i = 0; i < length; i++)
	{
		unsigned char c = text[i];

		if (!(IS_HIGHBIT_SET(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (i > 0 && ((c >= '0' && c <= '9') || c == '$'))))
			return false;
	}
	return length > 0;
}

/*
 * The reference from one brace to the other, between which one token stands that has
 * that value; NULL if they hold anything else, which the parser will judge.
 */
static Reference *
make_reference(const char *text, int from, int to, const char *value)
{
	const char *inner = text + from + 1;
	int			length = to - from - 2;
	Reference  *reference;
	bool		is_quoted = length > 2 && inner[0] == '"' && inner[length - 1] == '"';

	if (!is_quoted && !is_identifier(inner, length))
		return NULL;
	reference = palloc(sizeof(Reference));
	reference->from = from;
	reference->to = to;
	reference->is_quoted = is_quoted;

	/* not as the scanner has it, to which "from" is a keyword */
	reference->name = is_quoted ? pstrdup(value) :
		downcase_identifier(inner, length, false, false);
	return reference;
}

/* Raises an error if the literal may end elsewhere for another session. */
static void
check_literal(const char *text, int from, int to)
{
	for (int i = from; i + 1 < to; i++)
	{
		if (text[i] == '\\' && text[i + 1] == '\'')
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a literal of a generic backfill cannot have a backslash before a quote"),
					 errdetail("Where it ends depends on \"standard_conforming_strings\"."),
					 errhint("Write E'...' with two backslashes, or $$...$$."),
					 error_at(text, i)));
	}
}

/* The references in the text, in their order. */
static List *
find_references(const char *text)
{
	core_yy_extra_type extra;
	core_yyscan_t scanner = scanner_init(text, &extra, &ScanKeywords, ScanKeywordTokens);
	List	   *result = NIL;
	int			open = -1;		/* the brace before the tokens at hand, or -1 */
	int			inside = 0;		/* how many of them there are */
	int			last = -1;		/* where the token before this one begins */
	const char *value = NULL;	/* of the one after the brace */

	for (;;)
	{
		core_YYSTYPE token_value;
		int			location;
		int			token = core_yylex(&token_value, &location, scanner);
		Reference  *reference;

		if (last >= 0 && text[last] == '\'')
			check_literal(text, last, token == 0 ? strlen(text) : location);
		if (token == 0)
			break;
		last = location;
		if (token == '{')
		{
			open = location;
			inside = 0;
		}
		else if (token == '}' && open >= 0 && inside == 1)
		{
			reference = make_reference(text, open, location + 1, value);
			if (reference)
				result = lappend(result, reference);
			open = -1;
		}
		else if (open >= 0 && inside++ == 0)
			value = text[location] == '"' ? token_value.str : NULL;
	}
	scanner_finish(scanner);
	return result;
}

/* ---- declared or not ---- */

static bool
is_name(const Parameter *parameter)
{
	Oid			type = getBaseType(parameter->type);

	return type == NAMEOID || type == REGCLASSOID;
}

/* The parameter that is given, of that name, or NULL. */
static const Parameter *
find_parameter(const Parameters *parameters, const char *name)
{
	for (int i = 0; i < parameters->n; i++)
	{
		const Parameter *parameter = &parameters->items[i];

		if (strcmp(parameter->relation, PARAMETERS_GIVEN) == 0 && strcmp(parameter->name, name) == 0)
			return parameter;
	}
	return NULL;
}

compat_noreturn static void
unknown_name(const Parameters *parameters, const char *name, const char *text, int location)
{
	const char **names = palloc(sizeof(char *) * (parameters->n + 1));
	const char *nearest;
	int			n = 0;

	names[n++] = NAMES_TARGET;
	for (int i = 0; i < parameters->n; i++)
	{
		if (strcmp(parameters->items[i].relation, PARAMETERS_GIVEN) == 0 &&
			is_name(&parameters->items[i]))
			names[n++] = parameters->items[i].name;
	}
	nearest = nearest_name(name, names, n);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_PARAMETER),
			 errmsg("the backfill declares no parameter \"%s\"", name),
			 nearest ? errhint("Perhaps you meant \"{%s}\".", nearest) :
			 errhint("Declare it with the type name in \"parameters\" of backfill_define."),
			 error_at(text, location)));
}

/*
 * The parameter in braces, at that byte of the text, or, if that is NULL, somewhere;
 * raises an error if it is no name.
 */
static const Parameter *
get_parameter(const Parameters *parameters, const char *name, const char *text, int location)
{
	const Parameter *parameter = find_parameter(parameters, name);

	if (parameter == NULL)
		unknown_name(parameters, name, text, location);
	if (!is_name(parameter))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("parameter \"%s\" of the backfill is not a name", name),
				 errdetail("It has the type %s.",
						   format_type_with_typemod(parameter->type, parameter->typmod)),
				 errhint("Declare it with the type name, or regclass for a table; or write params.%s for its value.",
						 quote_identifier(name)),
				 error_at(text, location)));
	return parameter;
}

/* ---- at the definition ---- */

/*
 * The text with identifiers in the places of its references, of the same length.  It
 * is for the parser alone, to have its syntax looked at.
 */
static char *
placeholders(const char *what, const char *text, const Parameters *parameters)
{
	PositionText context = {what, text};
	ErrorContextCallback callback;
	char	   *result = pstrdup(text);
	ListCell   *lc;

	callback.callback = position_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	foreach(lc, find_references(text))
	{
		Reference  *reference = lfirst(lc);

		if (strcmp(reference->name, NAMES_TARGET) != 0)
			(void) get_parameter(parameters, reference->name, text, reference->from);
		result[reference->from] = result[reference->to - 1] = reference->is_quoted ? ' ' : '"';
	}
	error_context_stack = callback.previous;
	return result;
}

/* Have the parser look at the statement, of which it knows nothing else. */
static void
check_syntax(const char *text, const char *parsed)
{
	PositionText context = {"statement", text};
	ErrorContextCallback callback;

	callback.callback = position_error_callback;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	(void) raw_parser(parsed, RAW_PARSE_DEFAULT);
	error_context_stack = callback.previous;
}

/* What the key refers to, or NULL if it is the name of an index. */
static char *
key_reference(const char *key)
{
	int			length = key ? strlen(key) : 0;

	return length > 2 && key[0] == '{' && key[length - 1] == '}' ? pnstrdup(key + 1, length - 2) : NULL;
}

/* The name of the index that the key refers to must be a name. */
static const Parameter *
key_parameter(const Parameters *parameters, const char *name)
{
	const Parameter *parameter = get_parameter(parameters, name, NULL, 0);

	if (getBaseType(parameter->type) != NAMEOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("parameter \"%s\" of the backfill is not the name of an index", name),
				 errhint("Declare it with the type name.")));
	return parameter;
}

/*
 * Check what can be known of a generic definition before it has a target: references
 * and syntax.
 */
void
names_check(const DefinitionInfo *def)
{
	Parameters *parameters = parameters_load(def->parameters, NULL, NULL);
	WalkRange	range = {0};
	char	   *key = key_reference(def->key);

	if (find_parameter(parameters, NAMES_TARGET))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a generic backfill cannot have a parameter \"%s\"", NAMES_TARGET),
				 errdetail("{%s} is the table that a run is given.", NAMES_TARGET)));
	if (key)
		(void) key_parameter(parameters, key);
	if (def->statement)
		check_syntax(def->statement, placeholders("statement", def->statement, parameters));
	if (def->scope)
		(void) graft_make(NULL, &range, placeholders("scope", def->scope, parameters), NULL, false);
	for (int i = 0; i < STAGES; i++)
	{
		if (def->stages[i])
			(void) stage_parse((Stage) i, placeholders(stage_name((Stage) i), def->stages[i], parameters));
	}
}

/* ---- at the start of a run ---- */

/* Add the names of the columns of the table; returns how many there are then. */
static int
add_columns(Oid table, const char **names, int n)
{
	Relation	rel = relation_open(table, AccessShareLock);

	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (!att->attisdropped)
			names[n++] = pstrdup(NameStr(att->attname));
	}
	relation_close(rel, AccessShareLock);
	return n;
}

/* The table that a parameter of the type regclass stands for, or raise an error. */
static Oid
table_value(const Parameter *parameter)
{
	Oid			table = DatumGetObjectId(parameter->value);
	char	   *name = get_rel_name(table);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table of backfill parameter \"%s\" does not exist", parameter->name)));
	if (isAnyTempNamespace(get_rel_namespace(table)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" of backfill parameter \"%s\" is temporary", name, parameter->name),
				 errdetail("A run works in other sessions.")));
	return table;
}

/* Whether the parameter stands for a table, and is given. */
static bool
is_table(const Parameter *parameter)
{
	return getBaseType(parameter->type) == REGCLASSOID && !parameter->isnull;
}

/* Raises an error unless the target has the column, or another table that is given. */
static void
check_column(const Binder *binder, const Parameter *parameter, const char *name)
{
	const Parameters *parameters = binder->parameters;
	const char **names;
	const char *nearest;
	int			n = 0;
	int			tables = 1;

	if (get_attnum(binder->def->target, name) != InvalidAttrNumber)
		return;
	for (int i = 0; i < parameters->n; i++)
	{
		if (!is_table(&parameters->items[i]))
			continue;
		tables++;
		if (get_attnum(table_value(&parameters->items[i]), name) != InvalidAttrNumber)
			return;
	}

	names = palloc(sizeof(char *) * tables * MaxHeapAttributeNumber);
	n = add_columns(binder->def->target, names, n);
	for (int i = 0; i < parameters->n; i++)
	{
		if (is_table(&parameters->items[i]))
			n = add_columns(table_value(&parameters->items[i]), names, n);
	}
	nearest = nearest_name(name, names, n);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of relation \"%s\" does not exist", name,
					get_rel_name(binder->def->target)),
			 errdetail("It is given in parameter \"%s\" of the backfill.", parameter->name),
			 nearest ? errhint("Perhaps you meant the column \"%s\".", nearest) : 0));
}

/* The value of a parameter that is a name, or raise an error. */
static const char *
name_value(const Parameter *parameter)
{
	if (parameter->isnull)
		parameters_missing(parameter->name);
	return getBaseType(parameter->type) == NAMEOID ? NameStr(*DatumGetName(parameter->value)) : NULL;
}

/* What is written for the reference. */
static char *
write_reference(const Binder *binder, const Reference *reference)
{
	const Parameter *parameter;
	const char *name;

	if (strcmp(reference->name, NAMES_TARGET) == 0)
		return names_of_table(binder->def->target);
	parameter = get_parameter(binder->parameters, reference->name, NULL, 0);
	name = name_value(parameter);
	if (name == NULL)
		return names_of_table(table_value(parameter));
	if (binder->columns_only)
		check_column(binder, parameter, name);
	return quoted(name);
}

/* The text with its references bound.  Blanks part a name from what could join it. */
static char *
bind(const Binder *binder, const char *what, const char *text)
{
	StringInfoData buf;
	ListCell   *lc;
	int			done = 0;

	if (text == NULL)
		return NULL;
	initStringInfo(&buf);
	foreach(lc, find_references(text))
	{
		Reference  *reference = lfirst(lc);

		appendBinaryStringInfo(&buf, text + done, reference->from - done);
		if (buf.len > 0 && strchr(" \t\r\n.(,", buf.data[buf.len - 1]) == NULL)
			appendStringInfoChar(&buf, ' ');
		appendStringInfoString(&buf, write_reference(binder, reference));
		if (strchr(" \t\r\n.),;", text[reference->to]) == NULL)
			appendStringInfoChar(&buf, ' ');
		done = reference->to;
		CHECK_FOR_INTERRUPTS();
	}
	appendStringInfoString(&buf, text + done);
	limit_check_bytes(psprintf("the %s of a backfill, with its names,", what), buf.len, LIMIT_TEXT);
	return buf.data;
}

/*
 * Bind the definition, which has been given its target, to the names among the
 * parameters: its texts and its key are what those of any other definition are then.
 * Where names must exist, there is an error for a column that does not, unless
 * "prepare" may make it.  In the current memory context.
 */
void
names_bind(DefinitionInfo *def, const Parameters *parameters, bool must_exist)
{
	Binder		binder = {def, parameters, false};
	char	   *key = key_reference(def->key);

	/* the walk says so */
	if (get_rel_name(def->target) == NULL)
		return;
	if (key)
		def->key = pstrdup(name_value(key_parameter(parameters, key)));

	/* constraints, indexes and the like have names, too */
	for (int i = 0; i < STAGES; i++)
		def->stages[i] = bind(&binder, stage_name((Stage) i), def->stages[i]);
	binder.columns_only = must_exist && !stage_has_statements(STAGE_PREPARE, def->stages[STAGE_PREPARE]);
	if (def->statement)
		def->statement = bind(&binder, "statement", def->statement);
	def->scope = bind(&binder, "scope", def->scope);
}
