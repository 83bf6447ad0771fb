# Health: a vacuum of the target, by hand or by itself, and too many dead rows
# hold a run.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Health;
use BackfillTest::OneNode;
use Test::More;

health_node();

# --- Vacuum ------------------------------------------------------------------

note 'vacuum';
alter('{"pause_for_maintenance": true}');
my $vacuuming = q{SELECT count(*) > 0 FROM pg_stat_progress_vacuum WHERE relid = 't'::regclass};
my $vacuum = session($node);
holds('VACUUM of the target', 'pause_for_maintenance',
	cross => sub {
		$vacuum->query('SET vacuum_cost_delay = 50; SET vacuum_cost_limit = 1');
		# all of its pages: of a table that nobody has changed it would be over at once
		$vacuum->send('VACUUM (DISABLE_PAGE_SKIPPING) t');
	},
	crossed => $vacuuming,
	reason => q{process \d+ is at work on the target: VACUUM},
	release => sub { sql('SELECT pg_cancel_backend(' . $vacuum->pid . ')'); });
holds('an autovacuum of the target', 'pause_for_maintenance',
	cross => sub {
		sql('ALTER TABLE t SET (autovacuum_enabled = on, autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
			autovacuum_vacuum_cost_delay = 50, autovacuum_vacuum_cost_limit = 1, autovacuum_analyze_threshold = 1000000000)');
	},
	crossed => $vacuuming,
	reason => q{process \d+ is at work on the target: VACUUM},
	meanwhile => sub {
		is(look(q{SELECT string_agg(DISTINCT backend_type, '') FROM pg_stat_progress_vacuum JOIN pg_stat_activity USING (pid) WHERE relid = 't'::regclass}),
			'autovacuum worker', 'it is one');
	},
	# cancels it, after deadlock_timeout
	release => sub { sql('ALTER TABLE t SET (autovacuum_enabled = off)'); });
alter('{"pause_for_maintenance": false}');
my $share = q{SELECT round(n_dead_tup::numeric / (n_dead_tup + n_live_tup), 4) FROM pg_stat_user_tables WHERE relname = 't'};
my $limit = look($share) + 0.002;
holds('max_dead_rows', 'max_dead_rows',
	cross => sub { alter(qq({"max_dead_rows": $limit})); },
	crossed => "SELECT ($share) >= $limit",
	reason => q{\d+\.\d % of the rows are dead, limit },
	release => sub { sql('VACUUM t'); });
alter('{"max_dead_rows": null}');

$vacuum->quit;
completes();
over();
