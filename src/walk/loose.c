/*-------------------------------------------------------------------------
 *
 * loose.c
 *	  The values of a key, one by one, without the rows between.
 *
 * The server has no scan that skips to the next value before 18, and none that a plan can be
 * relied upon to take.  A recursive query does the same: the first value, and then, from
 * each, the next one beyond it, a descent of the index each.  Its values come in order and as
 * they are asked for, so that an offset reads no further.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "walk/loose.h"
#include "walk/order.h"

/* Append the query for the first value in a place of the range. */
static void
append_first(StringInfo buf, Walk *walk, const char *place, bool descending)
{
	appendStringInfoString(buf, "(SELECT ");
	order_append_keys(buf, walk, "batch");
	appendStringInfo(buf, " FROM %s AS batch WHERE \"%s\"", walk->target_name, place);
	order_append(buf, walk, "batch", descending);
	appendStringInfoString(buf, " LIMIT 1)");
}

/*
 * Append a query for the values of the key in the range and in scope, where placeholders stand for them: in
 * ascending or descending order, one row for each.
 */
void
loose_append(StringInfo buf, Walk *walk, bool descending)
{
	appendStringInfoString(buf, "WITH RECURSIVE " WALK_REST_OF " AS (");
	append_first(buf, walk, WALK_PLACE, descending);
	appendStringInfoString(buf, " UNION ALL SELECT ");
	order_append_keys(buf, walk, "beyond");
	appendStringInfoString(buf, " FROM " WALK_REST_OF " CROSS JOIN LATERAL ");
	append_first(buf, walk, descending == walk->descending ? WALK_REST : WALK_REST_BACK,
				 descending);
	appendStringInfoString(buf, " AS beyond) SELECT ");
	order_append_keys(buf, walk, WALK_REST_OF);
	appendStringInfoString(buf, " FROM " WALK_REST_OF);
}

/* Append the query that is the relation "batch" for a range. */
void
loose_append_batch(StringInfo buf, Walk *walk, const WalkRange *range)
{
	if (!range->nulls)
	{
		loose_append(buf, walk, walk->descending);
		return;
	}
	appendStringInfoString(buf, "SELECT DISTINCT ON (");
	order_append_collated(buf, walk, "batch");
	appendStringInfoString(buf, ") ");
	order_append_keys(buf, walk, "batch");
	appendStringInfo(buf, " FROM %s AS batch WHERE \"%s\"", walk->target_name, WALK_PLACE);
}
