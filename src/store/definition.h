/*-------------------------------------------------------------------------
 *
 * definition.h
 *	  The rows of definitions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_STORE_DEFINITION_H
#define BACKFILL_STORE_DEFINITION_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "store/store.h"

/* When SQL of a definition is run that is run once in a run. */
typedef enum Stage
{
	STAGE_PREPARE,				/* before the first batch */
	STAGE_FINISH				/* when every batch is done and verified */
} Stage;

#define STAGES (STAGE_FINISH + 1)

/* What stands for a source in the place of a function: clients bring the pages. */
#define SOURCE_CLIENT "client"

/* Where pages of records come from, instead of rows of the target.  Names are quoted. */
typedef struct SourceInfo
{
	char	   *function;		/* qualified, or SOURCE_CLIENT, or NULL for a table that is walked */
	Oid			owner;			/* of the function, when it was given */
	char	   *check;			/* likewise, or NULL for none */
	Oid			check_owner;
} SourceInfo;

/* Whether clients bring the pages. */
static inline bool
source_is_client(const SourceInfo *source)
{
	return source->function != NULL && strcmp(source->function, SOURCE_CLIENT) == 0;
}

/* Whether workers fetch them. */
static inline bool
source_is_function(const SourceInfo *source)
{
	return source->function != NULL && !source_is_client(source);
}

/* What store_read_source reads. */
#define STORE_SOURCE_COLUMNS \
	"source, source_owner::oid, source_check, source_check_owner::oid"

/* A row of backfill.definition.  Texts that may be null are NULL then. */
typedef struct DefinitionInfo
{
	char	   *name;
	Oid			owner;
	Oid			target;			/* InvalidOid of a generic one that has not been given any */
	bool		generic;
	char	   *streams;		/* what a run is divided into */
	char	   *statement;
	char	   *scope;
	char	   *key;
	Jsonb	   *parameters;		/* declared */
	Jsonb	   *settings;
	char	   *search_path;
	char	   *description;
	char	   *stages[STAGES];	/* what is run once */
	Jsonb	   *followers;			/* NULL for none */
	SourceInfo	source;
} DefinitionInfo;

extern void store_read_source(StoreSession *session, int row, int column, SourceInfo *source);
extern DefinitionInfo *store_load_definition(StoreSession *session, const char *name);
extern void store_put_definition(StoreSession *session, const DefinitionInfo *def);
extern bool store_lock_definition(StoreSession *session, const char *name);
extern void store_delete_definition(StoreSession *session, const char *name);
extern TimestampTz store_last_started(StoreSession *session, const DefinitionInfo *def);
extern bool store_followers_reach(StoreSession *session, Jsonb *followers, const char *name);

#endif							/* BACKFILL_STORE_DEFINITION_H */
