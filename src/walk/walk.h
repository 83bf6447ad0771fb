/*-------------------------------------------------------------------------
 *
 * walk.h
 *	  The key of a walk, and ranges of it as conditions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_WALK_WALK_H
#define BACKFILL_WALK_WALK_H

#include "nodes/bitmapset.h"
#include "nodes/params.h"
#include "parser/parse_node.h"
#include "utils/array.h"

#include "settings/setting.h"

/* The relation that statements are about. */
#define WALK_BATCH		"batch"

/*
 * What stands in a query where the condition of the range belongs; or of what is left of it
 * behind the key of WALK_REST_OF, in the direction of the walk or against it.
 */
#define WALK_PLACE		"backfill range"
#define WALK_REST		"backfill rest"
#define WALK_REST_BACK	"backfill rest back"
#define WALK_REST_OF	"loose"

/* What stands for a row of the target's type, and for the records of a page of a source. */
#define WALK_ROW		"backfill row"
#define WALK_RECORDS	"backfill records"

/* One column of the key. */
typedef struct WalkColumn
{
	char	   *name;			/* or the text of the expression */
	AttrNumber	attno;			/* 0 for an expression */
	Node	   *expr;			/* which is about the relation 1; NULL for a column */
	Bitmapset  *attnos;			/* of the columns in it */
	Oid			type;			/* of the column */
	Oid			argtype;		/* that the operators of the index take */
	Oid			collation;		/* of the index, or InvalidOid */
	Oid			column_collation;
	Oid			opfamily;
	Oid			opcintype;
	bool		nullable;
	bool		nulls_first;	/* in an ascending scan of the index */
	FmgrInfo	output;
	FmgrInfo	input;
	Oid			ioparam;
	int16		typlen;
	bool		typbyval;
} WalkColumn;

/* A table and the index along which it is walked. */
typedef struct Walk
{
	Oid			target;
	Oid			index;			/* InvalidOid for a walk by pages */
	char	   *target_name;	/* qualified and quoted */
	List	   *predicate;		/* of the rows in the index, about the relation 1; or NIL */
	bool		has_children;	/* partitions or inheritance children */
	bool		may_repeat;		/* several rows may have the same key */
	bool		has_nulls;		/* columns of the key may be null */
	bool		is_shared;		/* the first column of the key is what the setting share_by names */
	bool		distinct;		/* batch is one row for each value */
	bool		by_page;
	bool		by_source;		/* batch is the page of a source, see records.c; there is no index */
	bool		comes_again;	/* until nothing is in scope; by pages, without bounds */
	bool		descending;
	bool		pin;			/* key texts depend on parameters */
	int			nkeys;
	WalkColumn	columns[INDEX_MAX_KEYS];
} Walk;

/*
 * Which key columns bound a range, in the direction of the walk.  The
 * parameters are numbered alike in every query: 1 to nkeys is where the range
 * starts, nkeys + 1 to 2 * nkeys where it ends, one more for a number.
 */
typedef struct WalkRange
{
	int			nstart;			/* leading key columns compared, 0 for no start */
	bool		start_inclusive;
	int			nend;			/* likewise */
	bool		end_exclusive;
	bool		nulls;			/* the rows with a null in the key instead */
	bool		everything;		/* all rows of the table instead */
} WalkRange;

/* The shapes that the ranges of batches have. */
typedef enum RangeShape
{
	RANGE_AFTER,				/* without its start */
	RANGE_FROM,					/* with it */
	RANGE_NULLS					/* the rows with a null in the key */
} RangeShape;

#define RANGE_SHAPES	3

/* How many of them the ranges of the walk may have. */
#define WALK_SHAPES(walk) ((walk)->has_nulls ? RANGE_SHAPES : RANGE_NULLS)

extern void walk_check_is_here(const Walk *walk);
extern Walk *walk_open(Oid target, const char *key, const RunSettings *settings);
extern Walk *walk_open_source(Oid target);
extern ArrayType *walk_key_names(const Walk *walk);
extern ArrayType *walk_key_types(Walk *walk);
extern void walk_check_key_types(Walk *walk, ArrayType *types);
extern void walk_check_index(Walk *walk);
extern Param *walk_param(int number, Oid type, int32 typmod);
extern Node *walk_number_param(Walk *walk);
extern Node *walk_range_expr(Walk *walk, const WalkRange *range, ParseState *pstate,
							 ParseNamespaceItem *nsitem);
extern Node *walk_beyond_expr(Walk *walk, bool descending, ParseState *pstate,
							  ParseNamespaceItem *nsitem, ParseNamespaceItem *other, int levels_up);
extern List *walk_predicate(Walk *walk, ParseNamespaceItem *nsitem);
extern WalkRange walk_range(const Walk *walk, RangeShape shape);
extern ParamListInfo walk_make_params(Walk *walk, int others);
extern void walk_set_columns(Walk *walk, ParamListInfo params, int first,
							 const Datum *key, int n);
extern void walk_set_number(Walk *walk, ParamListInfo params, int64 number);
extern void walk_set_start(Walk *walk, ParamListInfo params, const Datum *key);
extern void walk_set_end(Walk *walk, ParamListInfo params, const Datum *key);

#endif							/* BACKFILL_WALK_WALK_H */
