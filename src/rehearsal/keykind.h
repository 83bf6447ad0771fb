/*-------------------------------------------------------------------------
 *
 * keykind.h
 *	  What the kind of its key means for the batches of a walk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_KEYKIND_H
#define BACKFILL_REHEARSAL_KEYKIND_H

#include "rehearsal/estimate.h"
#include "rehearsal/frame.h"

typedef struct KeyKind
{
	const char *name;			/* for programs */
	double		largest_group;	/* rows that share a key, at most; -1 if that is not known */
	double		null_rows;		/* rows with a null in it, likewise; 0 if none are walked */
} KeyKind;

extern void keykind_find(Rehearsal *rehearsal, double rows_table, KeyKind *kind);
extern const char *keykind_words(const Rehearsal *rehearsal, const KeyKind *kind);
extern void keykind_advise(List **warnings, Rehearsal *rehearsal, const KeyKind *kind,
						   double batch_size);

#endif							/* BACKFILL_REHEARSAL_KEYKIND_H */
