/*-------------------------------------------------------------------------
 *
 * scale.c
 *	  The number of workers of a run with "workers": "auto".
 *
 * The load is that of the measure of health that is closest to its limit, as a
 * share of the limit.  Below a band of it there is one worker more, within the
 * band it stays, above it there is one less, and from the limit on half of them.
 * Between two changes there is a cool-down; a decrease at the limit waits for
 * none.
 *
 * One more worker that does not bring what it should, because something else is
 * the bottleneck, is taken back, and not tried again for a while.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "governor/scale.h"
#include "settings/setting.h"

#define IDLE_LOAD		0.4
#define BUSY_LOAD		0.7
/* What one more has to bring, as a share of what one of the others brings. */
#define WORTH_IT		0.25
/* Cool-downs before what brought nothing is tried again. */
#define TRY_AGAIN		20

/* Whether the worker that was added last brings too little. */
static bool
brings_little(const Scale *scale, double rate)
{
	double		each = scale->rate_before / Max(scale->workers - 1, 1);

	return scale->grew && scale->rate_before > 0 && rate >= 0 &&
		rate - scale->rate_before < each * WORTH_IT;
}

static void
change(Scale *scale, int workers, double rate, TimestampTz now)
{
	scale->grew = workers > scale->workers;
	scale->rate_before = rate;
	scale->workers = workers;
	scale->changed_at = now;
}

/*
 * The number of workers that there should be now, from 1 to most.  The rate is
 * in rows per second, or negative while it is unknown.
 */
int
scale_workers(Scale *scale, const RunSettings *settings, double load, double rate, int most)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		cool = clock_has_passed(scale->changed_at, now, settings->scale_interval);

	if (scale->workers == 0)
	{
		scale->workers = 1;
		scale->changed_at = now;
		return 1;
	}
	if (scale->ceiling > 0 &&
		!clock_is_ahead(scale->ceiling_until, now, settings->scale_interval * TRY_AGAIN))
		scale->ceiling = 0;

	if (scale->workers > most)
		change(scale, most, rate, now);
	else if (load >= 1 && scale->workers > 1 &&
			 (cool || scale->grew))
		change(scale, scale->workers / 2, rate, now);
	else if (!cool)
		return scale->workers;
	else if (load >= BUSY_LOAD && scale->workers > 1)
		change(scale, scale->workers - 1, rate, now);
	else if (brings_little(scale, rate))
	{
		scale->ceiling = scale->workers - 1;
		scale->ceiling_until = TimestampTzPlusMilliseconds(now,
														   settings->scale_interval * TRY_AGAIN);
		change(scale, scale->workers - 1, rate, now);
	}
	else if (load < IDLE_LOAD && rate >= 0 && scale->workers < most &&
			 (scale->ceiling == 0 || scale->workers < scale->ceiling))
		change(scale, scale->workers + 1, rate, now);
	return scale->workers;
}
