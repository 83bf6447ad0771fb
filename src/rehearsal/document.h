/*-------------------------------------------------------------------------
 *
 * document.h
 *	  A JSON document, written from its beginning to its end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_REHEARSAL_DOCUMENT_H
#define BACKFILL_REHEARSAL_DOCUMENT_H

#include "lib/stringinfo.h"

typedef struct Document
{
	StringInfo	out;
	int			depth;			/* of what is open */
	bool		is_empty;		/* nothing yet in the innermost of it */
} Document;

/* The key is NULL in an array, and for the document itself. */
extern void document_open(Document *document, const char *key, char bracket);
extern void document_close(Document *document, char bracket);
extern void document_text(Document *document, const char *key, const char *value);
extern void document_number(Document *document, const char *key, double value, int decimals);
extern void document_bool(Document *document, const char *key, bool value);
extern void document_null(Document *document, const char *key);

#endif							/* BACKFILL_REHEARSAL_DOCUMENT_H */
