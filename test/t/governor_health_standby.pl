# Health: standbys that are behind, in time or in bytes, that say nothing, or
# have gone, hold a run; what only receives the WAL is no standby.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Health;
use BackfillTest::OneNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

health_node();

# --- A standby ---------------------------------------------------------------

note 'a standby';
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', qq{
primary_conninfo = '@{[$node->connstr]} user=postgres application_name=far'
hot_standby = on
shared_preload_libraries = ''
});
$standby->start;
sub replays { return until_true(q{SELECT count(*) = 1 AND bool_and(replay_lsn IS NOT NULL AND pg_current_wal_lsn() - replay_lsn < 1000000) FROM pg_stat_replication WHERE application_name = 'far'}); }
ok(replays(), 'a standby replays');

# Without replay nothing at the primary says that time goes by.
my $paused;
alter('{"max_replica_lag": "1500 ms"}');
holds('max_replica_lag', 'max_replica_lag',
	cross => sub {
		$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
		$standby->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
		$paused = now();
	},
	crossed_at => sub { return look("SELECT timestamptz '$paused' + interval '1500 ms'"); },
	reason => q{standby "far" is \d+\.\d s behind, limit },
	release => sub { $standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()'); });
alter('{"max_replica_lag": null, "max_replica_lag_bytes": "3MB"}');
holds('max_replica_lag_bytes', 'max_replica_lag_bytes',
	cross => sub {
		$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
		$standby->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
		sql(q{SELECT pg_logical_emit_message(false, 'x', repeat('x', 4000000))});
	},
	crossed => 'SELECT max(pg_current_wal_lsn() - replay_lsn) > 3 * 1024 * 1024 FROM pg_stat_replication',
	reason => q{standby "far" is \d+ kB behind, limit 3072 kB},
	release => sub { $standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()'); });

# One that says nothing leaves replay_lag as it was.
ok(replays(), 'the standby has caught up');
alter('{"max_replica_lag": "1500 ms", "max_replica_lag_bytes": null}');
my $receiver = $standby->safe_psql('postgres', 'SELECT pid FROM pg_stat_wal_receiver');
holds('a standby that says nothing', 'max_replica_lag',
	cross => sub {
		kill('STOP', $receiver);
		$paused = now();
	},
	crossed_at => sub { return look("SELECT timestamptz '$paused' + interval '1500 ms'"); },
	reason => q{standby "far" is \d+\.\d s behind, limit },
	meanwhile => sub {
		is(look(q{SELECT coalesce(max(replay_lag) < '1500 ms', true) FROM pg_stat_replication}), 't', 'while replay_lag in pg_stat_replication is what it was');
	},
	release => sub { kill('CONT', $receiver); });

# Closed on failure: one that has gone cannot be read.
ok(replays(), 'the standby has caught up');
alter('{"max_replica_lag": "1 min"}');
holds('a standby that was killed', 'max_replica_lag', bound => full_length() ? 120 : 0,
	cross => sub {
		my $began = now();
		# the scheduler looks once a second, and has to have seen it
		ok(until_true("SELECT max(finished_at) > timestamptz '$began' + interval '2 s' FROM backfill_batches WHERE run_id = $id"), 'the standby is seen');
		$standby->stop('immediate');
	},
	reason => q{cannot be read: standby "far" has disconnected},
	release => sub {
		# where there is time: in the end it is given up
		return $standby->start unless full_length();
		ok(until_true("SELECT throttled_by IS NULL FROM backfill_runs WHERE id = $id"), 'after a minute the run goes on without it');
		$standby->start;
	});
# What only receives the WAL is no standby.
ok(replays(), 'the standby has caught up');
alter('{"max_replica_lag": "1 s"}');
my $received = $node->basedir . '/received';
mkdir $received;
foreach my $how ([], [ '--slot', 'receiver', '--create-slot', '--if-not-exists' ])
{
	my @slot = @$how;
	system_or_bail('pg_receivewal', '-D', $received, '-d', $node->connstr, @slot) if @slot;
	my $run = IPC::Run::start([ 'pg_receivewal', '-D', $received, '-d', $node->connstr, @slot[0 .. $#slot - 2] ], '<', \'', '>', '/dev/null', '2>&1');
	ok(until_true(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name <> 'far' AND state = 'streaming'}), 'pg_receivewal receives');
	my $began = now();
	ok(until_true("SELECT clock_timestamp() > timestamptz '$began' + interval '1.5 s'"), 'for a while');
	is(look("SELECT coalesce(throttled_by, 'none') FROM backfill_runs WHERE id = $id"), 'none', 'which is no reason to hold');
	$run->kill_kill(grace => 1);
}
sql(q{SELECT pg_drop_replication_slot('receiver') FROM pg_replication_slots WHERE slot_name = 'receiver' AND NOT active});

alter('{"max_replica_lag": null, "max_replica_lag_bytes": null}');

completes();
$standby->stop('immediate');
over();
