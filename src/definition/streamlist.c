/*-------------------------------------------------------------------------
 *
 * streamlist.c
 *	  What a run is divided into.
 *
 * The text of a definition says it in one of three ways: the word "partitions", a list of
 * names as a JSON array, or a query.  What the list and the query give for a stream is its
 * name, or an object or a row with the columns name, "from", "to" and weight.
 *
 * A partition is walked as a table of its own.  What the parent would see to must not get
 * lost by that, nor what is the partition's own come in between: row security, triggers for
 * each statement and privileges are looked at here, and again when a stream is begun.
 *
 * Called as the owner of the definition or the run, under its search_path.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/limit.h"
#include "definition/foresee.h"
#include "definition/streamlist.h"
#include "settings/setting.h"
#include "settings/settings.h"

/* Rows on a page of a table of which nothing is known. */
#define ROWS_OF_PAGE		50

/* The table, as a message names it. */
static char *
table_text(Oid table)
{
	return DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(table)));
}

/* Whether each partition is to be a stream. */
bool
streamlist_is_partitions(const char *text)
{
	int			blanks = strspn(text, " \t\r\n");
	int			length = strlen(STREAM_PARTITIONS);

	return pg_strncasecmp(text + blanks, STREAM_PARTITIONS, length) == 0 &&
		text[blanks + length + strspn(text + blanks + length, " \t\r\n")] == '\0';
}

/* Whether it is a list of names; a query otherwise. */
static bool
is_list(const char *text)
{
	return text[strspn(text, " \t\r\n")] == '[';
}

/* ---- lists and queries ---- */

compat_noreturn static void
refuse_stream(int number, const char *what, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("stream %d of a backfill %s", number, what),
			 detail ? errdetail("%s", detail) : 0,
			 errhint("A stream is a name, or has \"name\" and may have \"from\", \"to\" and \"weight\".")));
}

/* The value as a text: NULL if it is neither text nor number. */
static char *
scalar_text(const JsonbValue *value)
{
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	if (value->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	return NULL;
}

/* The member of an object, as a text. */
static char *
member_text(Jsonb *object, const char *name, int number)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&object->root, name, strlen(name), NULL);
	char	   *text;

	if (value == NULL || value->type == jbvNull)
		return NULL;
	text = scalar_text(value);
	if (text == NULL)
		refuse_stream(number, psprintf("has no text or number for \"%s\"", name), NULL);
	return text;
}

/* The bounds of the object: of its members "from" and "to" what there is, or NULL. */
static Jsonb *
read_bounds(Jsonb *object)
{
	static const char *const names[] = {"from", "to"};
	JsonbParseState *state = NULL;
	JsonbValue *value;
	bool		any = false;
	Jsonb	   *bounds;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < lengthof(names); i++)
	{
		JsonbValue	key;
		JsonbValue *member = getKeyJsonValueFromContainer(&object->root, names[i],
														  strlen(names[i]), NULL);

		if (member == NULL || member->type == jbvNull)
			continue;
		any = true;
		key.type = jbvString;
		key.val.string.val = unconstify(char *, names[i]);
		key.val.string.len = strlen(names[i]);
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, member);
	}
	value = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	if (!any)
		return NULL;
	bounds = JsonbValueToJsonb(value);
	settings_check(bounds);
	return bounds;
}

/* Raises an error if the name is none. */
static void
check_stream_name(const char *name, int number)
{
	if (name == NULL || name[0] == '\0')
		refuse_stream(number, "has no name", NULL);
	if (strlen(name) > LIMIT_STREAM_NAME)
		refuse_stream(number, "has a name that is too long",
					  psprintf("The limit is %d bytes.", LIMIT_STREAM_NAME));
}

/* Raises an error if the object, of a list, has what no stream has. */
static void
check_members(Jsonb *object, int number)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbValue	key;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		char	   *name;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(key.val.string.val, key.val.string.len);
		if (strcmp(name, "name") != 0 && strcmp(name, "from") != 0 &&
			strcmp(name, "to") != 0 && strcmp(name, "weight") != 0)
			refuse_stream(number, psprintf("has a property \"%s\"", name), NULL);
	}
}

/* Name the stream in the context of an error; the argument is its number. */
static void
stream_error_callback(void *arg)
{
	errcontext("stream %d of the backfill", *(int *) arg);
}

/* What else the object says of the stream than its name. */
static void
read_members(StreamInfo *stream, Jsonb *object, int number)
{
	ErrorContextCallback callback;
	char	   *weight = member_text(object, "weight", number);

	callback.callback = stream_error_callback;
	callback.arg = &number;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	if (weight)
		stream->weight = DatumGetFloat8(DirectFunctionCall1(float8in, CStringGetDatum(weight)));
	stream->bounds = read_bounds(object);
	error_context_stack = callback.previous;
	if (weight && !(stream->weight > 0 && stream->weight < 1e18))
		refuse_stream(number, "has a weight that is not above 0",
					  psprintf("The weight is %s.", weight));
}

/* One stream, of a list, or of a row, which may have columns of its own; number counts from 1. */
static StreamInfo *
read_stream(const JsonbValue *value, int number, bool is_row)
{
	StreamInfo *stream = palloc0(sizeof(StreamInfo));
	Jsonb	   *object;

	stream->position = number;
	if (value->type != jbvBinary)
	{
		stream->name = scalar_text(value);
		check_stream_name(stream->name, number);
		return stream;
	}
	object = JsonbValueToJsonb(unconstify(JsonbValue *, value));
	if (!JB_ROOT_IS_OBJECT(object))
		refuse_stream(number, "is an array", NULL);
	stream->name = member_text(object, "name", number);
	check_stream_name(stream->name, number);
	if (!is_row)
		check_members(object, number);
	read_members(stream, object, number);
	return stream;
}

/* The streams of a JSON array: StreamInfo. */
static List *
read_list(const char *text)
{
	Jsonb	   *array = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	JsonbIterator *it = JsonbIteratorInit(&array->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	List	   *result = NIL;

	limit_check_number("streams of a backfill", JB_ROOT_COUNT(array), LIMIT_STREAMS);
	(void) JsonbIteratorNext(&it, &value, true);
	while ((token = JsonbIteratorNext(&it, &value, true)) == WJB_ELEM)
		result = lappend(result, read_stream(&value, list_length(result) + 1, false));
	return result;
}

/* Name the query in the context of an error. */
static void
query_error_callback(void *arg)
{
	errcontext("query for the streams of the backfill");
}

/* The streams that the rows of a query are, in the current memory context: StreamInfo. */
static List *
run_query(const char *query)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorContextCallback callback;
	List	   *result = NIL;
	int			rc;

	callback.callback = query_error_callback;
	callback.arg = NULL;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	rc = SPI_execute(query, true, LIMIT_STREAMS + 1);
	if (rc != SPI_OK_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"streams\" of a backfill is not a query"),
				 errhint("Write a SELECT that returns \"name\", and may return \"from\", \"to\" and \"weight\"; or a JSON array of names; or \"partitions\".")));
	limit_check_number("streams of a backfill", SPI_processed, LIMIT_STREAMS);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTupleHeader row = SPI_returntuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		Datum		json = OidFunctionCall1(F_ROW_TO_JSON_RECORD, PointerGetDatum(row));
		MemoryContext old = MemoryContextSwitchTo(caller);
		Jsonb	   *object = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
																CStringGetDatum(TextDatumGetCString(json))));
		JsonbValue	value;

		CHECK_FOR_INTERRUPTS();
		JsonbToJsonbValue(object, &value);
		result = lappend(result, read_stream(&value, (int) i + 1, true));
		MemoryContextSwitchTo(old);
	}
	PopActiveSnapshot();
	SPI_finish();
	error_context_stack = callback.previous;
	return result;
}

/* ---- partitions ---- */

/* How many rows the table has, as far as its statistics or its size tell; at least 1. */
static double
estimate_rows(Relation rel)
{
	if (rel->rd_rel->reltuples >= 0)
		return Max(rel->rd_rel->reltuples, 1);
	return Max((double) RelationGetNumberOfBlocks(rel) * ROWS_OF_PAGE, 1);
}

/* The name of a partition among the others: with its schema where that is not the parent's. */
static char *
partition_name(Relation rel, Oid table)
{
	if (RelationGetNamespace(rel) == get_rel_namespace(table))
		return pstrdup(RelationGetRelationName(rel));
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/* The partitions of the table that hold rows: StreamInfo. */
static List *
read_partitions(Oid table)
{
	List	   *result = NIL;
	ListCell   *lc;

	/* it locks the partitions only */
	LockRelationOid(table, AccessShareLock);
	foreach(lc, find_all_inheritors(table, AccessShareLock, NULL))
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);
		StreamInfo *stream;

		CHECK_FOR_INTERRUPTS();
		if (rel->rd_rel->relkind == RELKIND_RELATION && rel->rd_rel->relispartition)
		{
			stream = palloc0(sizeof(StreamInfo));
			stream->name = partition_name(rel, table);
			stream->target = RelationGetRelid(rel);
			stream->weight = estimate_rows(rel);
			result = lappend(result, stream);
		}
		else if (rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("foreign partition %s cannot be a stream", table_text(RelationGetRelid(rel))),
					 errhint("Walk the table as a whole, without \"streams\".")));
		table_close(rel, NoLock);
	}
	return result;
}

/* Whether the partition belongs to the table. */
bool
streamlist_has(Oid table, Oid partition)
{
	return get_rel_relispartition(partition) &&
		list_member_oid(get_partition_ancestors(partition), table);
}

/*
 * The index of the partition that belongs to the index of the table with that name, or the
 * same if it is the name of none.
 */
const char *
streamlist_key(Oid partition, Oid table, const char *key)
{
	Oid			index;
	Relation	rel;
	const char *result = key;
	ListCell   *lc;

	index = key ? get_relname_relid(key, get_rel_namespace(table)) : InvalidOid;
	if (!OidIsValid(index) || get_rel_relkind(index) != RELKIND_PARTITIONED_INDEX)
		return key;
	rel = table_open(partition, AccessShareLock);
	foreach(lc, RelationGetIndexList(rel))
	{
		if (get_rel_relispartition(lfirst_oid(lc)) &&
			list_member_oid(get_partition_ancestors(lfirst_oid(lc)), index))
			result = get_rel_name(lfirst_oid(lc));
	}
	table_close(rel, NoLock);
	return result;
}

/* ---- in their order ---- */

/* The longest first; those of which nothing is known come last. */
static int
compare_weights(const ListCell *a, const ListCell *b)
{
	const StreamInfo *left = (const StreamInfo *) lfirst(a);
	const StreamInfo *right = (const StreamInfo *) lfirst(b);

	if (left->weight != right->weight)
		return left->weight > right->weight ? -1 : 1;
	return left->position < right->position ? -1 : left->position > right->position;
}

/* Raises an error if two streams have one name. */
static void
check_names(List *streams)
{
	HASHCTL		ctl = {.keysize = LIMIT_STREAM_NAME + 1, .entrysize = LIMIT_STREAM_NAME + 1,
	.hcxt = CurrentMemoryContext};
	HTAB	   *names = hash_create("names of streams", list_length(streams) + 1, &ctl,
									HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	ListCell   *lc;

	foreach(lc, streams)
	{
		const StreamInfo *stream = (const StreamInfo *) lfirst(lc);
		bool		found;

		(void) hash_search(names, stream->name, HASH_ENTER, &found);
		if (found)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("there are two streams with the name \"%s\"", stream->name)));
	}
	hash_destroy(names);
}

/*
 * The streams of a run on the table: StreamInfo, with name, target, weight, bounds and
 * position, in the order in which they are to be begun.  Runs a query of the owner's.
 */
List *
streamlist_read(const char *text, Oid table)
{
	List	   *result;
	int			position = 0;
	ListCell   *lc;

	if (streamlist_is_partitions(text))
		result = read_partitions(table);
	else if (is_list(text))
		result = read_list(text);
	else
		result = run_query(text);
	check_names(result);
	list_sort(result, compare_weights);
	foreach(lc, result)
		((StreamInfo *) lfirst(lc))->position = ++position;
	return result;
}

/* ---- checks ---- */

compat_noreturn static void
refuse_setting(const char *name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the setting \"%s\" cannot be given with \"streams\"", name),
			 errdetail("%s", detail)));
}

/* Raises an error if the settings of a definition, or of a run of it, do not go with streams. */
void
streamlist_check_settings(const DefinitionInfo *def, Jsonb *given)
{
	RunSettings settings;

	if (def->streams == NULL)
		return;
	settings_resolve(given, &settings);
	if (settings.share_by)
		refuse_setting("share_by", "Each value of it would be a stream of its own.");
	if (settings.outside || def->statement == NULL)
		refuse_setting("outside", "Streams of a table are walked by workers inside the server.");
	if (settings.max_batches > 0)
		refuse_setting("max_batches", "Batches are counted in each stream by itself.");
	if (def->key && strcmp(def->key, KEY_OF_PAGES) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("streams cannot be walked by pages"),
				 errdetail("A walk by pages comes again until nothing is left, as a whole."),
				 errhint("Name an index in \"key\".")));
}

compat_noreturn static void
refuse_partitions(Oid table, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the partitions of table %s cannot be streams", table_text(table)),
			 errdetail("%s", detail),
			 errhint("Walk the table as a whole, without \"streams\".")));
}

/* The name of a trigger that is called for each statement which changes rows of batch; or NULL. */
static const char *
statement_trigger(Relation rel)
{
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (!TRIGGER_FOR_ROW(trigger->tgtype) && trigger->tgenabled != TRIGGER_DISABLED &&
			(TRIGGER_FOR_UPDATE(trigger->tgtype) || TRIGGER_FOR_DELETE(trigger->tgtype)))
			return trigger->tgname;
	}
	return NULL;
}

/*
 * What the parent sees to, and a partition that is named itself would not: raises an error
 * if the owner's row security, or triggers for each statement, hold for the table.
 */
static void
check_parent(Oid table)
{
	Relation	rel = table_open(table, AccessShareLock);
	const char *trigger = statement_trigger(rel);

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table %s has no partitions to be streams", table_text(table)),
				 errhint("Give a list of names or a query in \"streams\", or leave it out.")));
	if (check_enable_rls(table, InvalidOid, true) == RLS_ENABLED)
		refuse_partitions(table, "Row security of the table holds for the owner of the backfill, and would not where a partition is walked by itself.");
	if (trigger)
		refuse_partitions(table, psprintf("Trigger \"%s\" is called for each statement about the table, and would not be where a partition is walked by itself.",
										  trigger));
	table_close(rel, NoLock);
}

/* The same the other way round: what would hold for the partition, and does not through the parent. */
static void
check_partition(Oid partition, Oid table)
{
	Relation	rel = table_open(partition, AccessShareLock);
	const char *trigger = statement_trigger(rel);

	if (check_enable_rls(partition, InvalidOid, true) == RLS_ENABLED)
		refuse_partitions(table, psprintf("Row security of partition %s holds for the owner of the backfill where it is walked by itself, and does not through the table.",
										  table_text(partition)));
	if (trigger)
		refuse_partitions(table, psprintf("Trigger \"%s\" of partition %s is called where it is walked by itself, and is not through the table.",
										  trigger, table_text(partition)));
	table_close(rel, NoLock);
}

/* A partition needs the rights itself that the owner has on the table. */
static void
check_rights(Oid partition, Oid table)
{
	static const AclMode modes[] = {ACL_SELECT, ACL_INSERT, ACL_UPDATE, ACL_DELETE};
	static const char *const names[] = {"SELECT", "INSERT", "UPDATE", "DELETE"};
	Oid			owner = GetUserId();

	for (int i = 0; i < lengthof(modes); i++)
	{
		if (pg_class_aclcheck(table, owner, modes[i]) != ACLCHECK_OK ||
			pg_class_aclcheck(partition, owner, modes[i]) == ACLCHECK_OK)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for partition %s", table_text(partition)),
				 errdetail("Role %s has %s on table %s, but not on its partition, which is walked by itself.",
						   quote_identifier(GetUserNameFromId(owner, false)), names[i], table_text(table)),
				 errhint("GRANT %s ON %s TO %s, or walk the table as a whole, without \"streams\".",
						 names[i], table_text(partition),
						 quote_identifier(GetUserNameFromId(owner, false)))));
	}
}

/*
 * Raises an error if the partition must not be walked by itself, by the current role, in the
 * place of the table.
 */
void
streamlist_check_partition(Oid table, Oid partition)
{
	check_parent(table);
	check_partition(partition, table);
	check_rights(partition, table);
}

/*
 * The definition as its statement can be checked: where partitions are streams, it is that
 * of the first of them.  Raises an error if they cannot be.
 */
const DefinitionInfo *
streamlist_sample(const DefinitionInfo *def)
{
	DefinitionInfo *sample;
	List	   *partitions;
	ListCell   *lc;

	if (def->streams == NULL || !streamlist_is_partitions(def->streams))
		return def;
	check_parent(def->target);
	partitions = streamlist_read(def->streams, def->target);
	if (partitions == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s has no partitions yet", table_text(def->target))));
	foreach(lc, partitions)
	{
		Oid			partition = ((StreamInfo *) lfirst(lc))->target;

		CHECK_FOR_INTERRUPTS();
		check_partition(partition, def->target);
		check_rights(partition, def->target);
	}
	sample = palloc(sizeof(DefinitionInfo));
	*sample = *def;
	sample->target = ((StreamInfo *) linitial(partitions))->target;
	sample->key = unconstify(char *, streamlist_key(sample->target, def->target, def->key));
	return sample;
}

/*
 * Raises an error if the list or the query of the definition is not sound: what partitions are,
 * streamlist_sample has seen.  A query is analysed and not run: what it says would fail now is
 * a warning, since what it names may be made.
 */
void
streamlist_check(const DefinitionInfo *def)
{
	if (def->streams == NULL || streamlist_is_partitions(def->streams))
		return;
	if (is_list(def->streams))
	{
		if (streamlist_read(def->streams, def->target) == NIL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the list of streams of a backfill is empty")));
	}
	else
		foresee_streams(def->streams);
}
