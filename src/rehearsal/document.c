/*-------------------------------------------------------------------------
 *
 * document.c
 *	  A JSON document, written from its beginning to its end.
 *
 * As EXPLAIN (FORMAT JSON) writes one: keys in the order in which they are given,
 * which jsonb would not keep, and a line for each of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "utils/json.h"

#include "rehearsal/document.h"

/* Begin the next element, with its key if it has one. */
static void
begin_element(Document *document, const char *key)
{
	if (document->depth > 0)
	{
		if (!document->is_empty)
			appendStringInfoChar(document->out, ',');
		appendStringInfoChar(document->out, '\n');
		appendStringInfoSpaces(document->out, 2 * document->depth);
	}
	document->is_empty = false;
	if (key == NULL)
		return;
	escape_json(document->out, key);
	appendStringInfoString(document->out, ": ");
}

/* Open an object or an array, by its first bracket. */
void
document_open(Document *document, const char *key, char bracket)
{
	begin_element(document, key);
	appendStringInfoChar(document->out, bracket);
	document->depth++;
	document->is_empty = true;
}

/* Close it, by its last one. */
void
document_close(Document *document, char bracket)
{
	document->depth--;
	if (!document->is_empty)
	{
		appendStringInfoChar(document->out, '\n');
		appendStringInfoSpaces(document->out, 2 * document->depth);
	}
	appendStringInfoChar(document->out, bracket);
	document->is_empty = false;
}

/* A text; NULL is null. */
void
document_text(Document *document, const char *key, const char *value)
{
	begin_element(document, key);
	if (value)
		escape_json(document->out, value);
	else
		appendStringInfoString(document->out, "null");
}

/* A number with so many decimals; JSON has none that is not finite. */
void
document_number(Document *document, const char *key, double value, int decimals)
{
	begin_element(document, key);
	if (isfinite(value))
		appendStringInfo(document->out, "%.*f", decimals, value);
	else
		appendStringInfoString(document->out, "null");
}

void
document_bool(Document *document, const char *key, bool value)
{
	begin_element(document, key);
	appendStringInfoString(document->out, value ? "true" : "false");
}

void
document_null(Document *document, const char *key)
{
	document_text(document, key, NULL);
}
