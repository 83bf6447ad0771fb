/*-------------------------------------------------------------------------
 *
 * source.h
 *	  The source of a definition: a function that gives pages of records.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_DEFINITION_SOURCE_H
#define BACKFILL_DEFINITION_SOURCE_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "store/definition.h"

/* What a source is told of the page that it is to give. */
typedef struct SourceFacts
{
	int64		run_id;			/* 0 is null */
	const char *name;
	const char *stream;			/* NULL is null */
	int64		page;			/* number, 0 is null */
	int			attempt;		/* likewise */
	TimestampTz since;			/* DT_NOBEGIN is null, as below */
	TimestampTz until;
	TimestampTz started_at;
	Jsonb	   *parameters;
} SourceFacts;

/* What it has given. */
typedef struct SourcePage
{
	Jsonb	   *records;		/* an array */
	int64		n;				/* of them */
	Jsonb	   *next_token;		/* NULL at the end */
} SourcePage;

extern void source_find(SourceInfo *source, const char *words, const char *check_words,
						Oid extension_schema);
extern void source_check_definition(const DefinitionInfo *def, Jsonb *settings);
extern void source_check_ready(const SourceInfo *source, Oid owner, const SourceFacts *facts);
extern void source_call(const SourceInfo *source, Oid owner, Jsonb *token,
						const SourceFacts *facts, SourcePage *page);
extern void source_check_page(const char *whose, Jsonb *token, SourcePage *page);

#endif							/* BACKFILL_DEFINITION_SOURCE_H */
