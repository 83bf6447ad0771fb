/*-------------------------------------------------------------------------
 *
 * bar.c
 *	  Bars of characters, for those who look at text.
 *
 * The characters are those that every terminal and every encoding has.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "base/bar.h"

/*
 * Append a bar as long as that share, from 0 to 1, of the width.  What is there at all has
 * a character, and only what is full has all of them.  The rest of the width is filled
 * with that character, or, if it is '\0', left out.
 */
void
bar_append(StringInfo out, double share, int width, char rest)
{
	int			length = isnan(share) || share <= 0 ? 0 :
		share >= 1 ? width : Max(1, Min((int) (share * width), width - 1));

	for (int i = 0; i < length; i++)
		appendStringInfoChar(out, '#');
	for (int i = length; rest != '\0' && i < width; i++)
		appendStringInfoChar(out, rest);
}
