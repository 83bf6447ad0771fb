/*-------------------------------------------------------------------------
 *
 * position.c
 *	  Errors that point into a text of the user's.
 *
 * The statement, the scope and the last step are parsed as texts of their own: an
 * error position in one of them is turned into one of an internal query, so that
 * psql shows the line and the caret.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/position.h"

void
position_error_callback(void *arg)
{
	PositionText *context = (PositionText *) arg;
	int			position = geterrposition();

	if (position <= 0)
		return;
	errposition(0);
	internalerrposition(position);
	internalerrquery(context->text);
}
