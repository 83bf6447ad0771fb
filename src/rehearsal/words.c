/*-------------------------------------------------------------------------
 *
 * words.c
 *	  How things are called and written in what a rehearsal says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"

#include "base/quantity.h"
#include "rehearsal/words.h"

/* The table as it would be written under the current search_path. */
char *
words_table(Oid relid)
{
	return DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(relid)));
}

/* A key, given as texts: as an array if it has several columns. */
char *
words_key(ArrayType *key)
{
	Datum	   *elements;
	int			n;

	deconstruct_array(key, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	if (n > 1)
		return OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(key));
	return TextDatumGetCString(elements[0]);
}

char *
words_size(double bytes)
{
	return quantity_bytes_text((int64) bytes);
}

/* Two units at most: nobody plans a night by the second. */
char *
words_elapsed(double seconds)
{
	int64		s = (int64) (seconds + 0.5);

	if (seconds < 10)
		return psprintf("%.1f s", seconds);
	if (s < 60)
		return psprintf(INT64_FORMAT " s", s);
	if (s < 3600)
		return psprintf(INT64_FORMAT " min " INT64_FORMAT " s", s / 60, s % 60);
	if (s < 86400)
		return psprintf(INT64_FORMAT " h " INT64_FORMAT " min", s / 3600, s / 60 % 60);
	return psprintf(INT64_FORMAT " d " INT64_FORMAT " h", s / 86400, s / 3600 % 24);
}

/* The mode as LOCK TABLE has it. */
const char *
words_lock_mode(LOCKMODE mode)
{
	static const char *const words[] = {
		"no lock", "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE",
		"SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE",
		"ACCESS EXCLUSIVE"
	};

	return words[mode];
}
