/*-------------------------------------------------------------------------
 *
 * words.h
 *	  How things are called and written in what a rehearsal says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_WORDS_H
#define BACKFILL_REHEARSAL_WORDS_H

#include "storage/lockdefs.h"
#include "utils/array.h"

extern char *words_table(Oid relid);
extern char *words_key(ArrayType *key);
extern char *words_size(double bytes);
extern char *words_elapsed(double seconds);
extern const char *words_lock_mode(LOCKMODE mode);

#endif							/* BACKFILL_REHEARSAL_WORDS_H */
