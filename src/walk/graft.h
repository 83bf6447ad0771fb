/*-------------------------------------------------------------------------
 *
 * graft.h
 *	  The relation "batch", grafted into a raw statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_GRAFT_H
#define BACKFILL_WALK_GRAFT_H

#include "nodes/parsenodes.h"
#include "parser/parse_node.h"

#include "settings/parameters.h"
#include "walk/walk.h"

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

extern void graft_parser_setup(ParseState *pstate, void *arg);
extern bool graft_into(RawStmt *raw, const Graft *graft, const char *text);
extern void graft_mark_places(Node *stmt);
extern Graft *graft_of(const ParseState *pstate);
extern Graft *graft_make(Walk *walk, const WalkRange *range, const char *scope,
						 const Parameters *parameters, bool own);

#endif							/* BACKFILL_WALK_GRAFT_H */
