/*-------------------------------------------------------------------------
 *
 * nearest.c
 *	  The name that somebody may have meant.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/formatting.h"
#include "utils/varlena.h"

#include "base/nearest.h"

/* The one of the names that is nearest to the name given, or NULL. */
const char *
nearest_name(const char *name, const char *const *names, int n)
{
	const char *best = NULL;
	int			best_distance = Min(strlen(name) / 2, 4) + 1;
	char	   *lower = asc_tolower(name, strlen(name));

	if (strlen(name) > NAMEDATALEN)
		return NULL;
	for (int i = 0; i < n; i++)
	{
		int			distance = varstr_levenshtein_less_equal(lower, strlen(lower),
															 names[i], strlen(names[i]),
															 1, 1, 1, best_distance, true);

		if (distance < best_distance)
		{
			best_distance = distance;
			best = names[i];
		}
	}
	return best;
}
