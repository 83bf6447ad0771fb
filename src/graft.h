/*-------------------------------------------------------------------------
 *
 * graft.h
 *	  The relation "batch", grafted into a raw statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_GRAFT_H
#define BACKFILL_GRAFT_H

#include "nodes/parsenodes.h"
#include "parser/parse_node.h"

#include "parameters.h"
#include "walk.h"

/* What the parser's hooks have to know; lives as long as the statement. */
typedef struct Graft
{
	Walk	   *walk;
	WalkRange	range;
	Node	   *scope;			/* raw expression, or NULL */
	const char *scope_text;
	const Parameters *parameters;	/* NULL if nothing may refer to any */
	bool		own;			/* one of our own queries */
} Graft;

/* For turning an error position into one of an internal query. */
typedef struct TextContext
{
	const char *what;
	const char *text;
} TextContext;

extern void graft_error_callback(void *arg);
extern Graft *graft_make(Walk *walk, const WalkRange *range, const char *scope,
						 const Parameters *parameters, bool own);
extern bool graft_into(RawStmt *raw, Walk *walk, const char *text);
extern void graft_parser_setup(ParseState *pstate, void *arg);
extern bool graft_is_read(List *queries);
extern void graft_check_key(Query *query, Walk *walk);

#endif							/* BACKFILL_GRAFT_H */
