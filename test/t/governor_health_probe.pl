# The health of the server: each measure that holds a run, crossed and uncrossed
# while one long run is at work, whose settings are changed as it goes.  For
# each: how soon the run holds and goes on, what it says meanwhile, and that its
# workers hold nothing.  Then what slows a run down, several reasons at once,
# and what may go wrong with a probe, a standby or a scheduler.
#
# It should take two seconds from the limit to the hold and back.  The
# figures are printed; the bounds of the test only keep it from hanging.

use strict;
use warnings;

use BackfillTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time usleep);

# What a crowded machine may take for what should take two seconds.
use constant BOUND => 15;

my $node = make_node('health', streaming => 'logical', conf => qq{
max_connections = 50
wal_level = logical
max_wal_size = 1GB
archive_mode = on
archive_command = 'true'
autovacuum_naptime = 1s
deadlock_timeout = 100ms
});

sub sql { return query_ok($node, $_[0]); }

# Sessions that stay: looking is quick, and is told from the sleepers.
my $eye = session($node);
sub look { return $eye->query($_[0]); }

# Wait until the query is true.  Returns whether it came true.
sub until_true
{
	my ($sql) = @_;
	my $until = time + $BackfillTest::timeout;

	for (;;)
	{
		my $answer = look($sql);
		return 1 if $answer eq 't';
		if (time > $until)
		{
			diag("waited in vain for: $sql\nlast answer: $answer");
			return 0;
		}
		die "query failed: $sql\n$answer" if $answer =~ /ERROR:/;
		usleep(20_000);
	}
}

sub now { return look('SELECT clock_timestamp()'); }
sub seconds { return look("SELECT round(EXTRACT(epoch FROM timestamptz '$_[1]' - timestamptz '$_[0]'), 2)"); }

# --- The run -----------------------------------------------------------------

# Rows that take all of the test, ten at a time.
my $rows = 120_000;
create_target($node, 't', $rows);
sql('ALTER TABLE t SET (autovacuum_enabled = off)');
sql(q{
	CREATE TABLE gate (what text);
	INSERT INTO gate VALUES ('go');
	CREATE TABLE seen (at timestamptz);
	CREATE TABLE burnt (i int);
	-- Let so many transaction ids go by.
	CREATE FUNCTION burn(n int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			BEGIN
				INSERT INTO burnt VALUES (i);
				RAISE 'undone';
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
	END $$;
	-- Does what the gate says.
	CREATE FUNCTION probed() RETURNS SETOF text LANGUAGE plpgsql AS $$
	DECLARE
		what text := (SELECT g.what FROM gate g);
	BEGIN
		CASE what
			WHEN 'go' THEN RETURN NEXT NULL;
			WHEN 'none' THEN NULL;
			WHEN 'null first' THEN RETURN NEXT NULL; RETURN NEXT 'second';
			WHEN 'several' THEN RETURN NEXT 'first'; RETURN NEXT 'second';
			WHEN 'error' THEN RAISE EXCEPTION 'the probe is broken';
			WHEN 'hang' THEN PERFORM pg_sleep(600);
			WHEN 'commit' THEN COMMIT;
			WHEN 'write' THEN
				INSERT INTO seen VALUES (clock_timestamp());
				PERFORM pg_notify('probed', 'x');
				CREATE TABLE left_behind ();
			WHEN 'become' THEN
				PERFORM set_config('role', 'somebody', false), set_config('search_path', 'nowhere', false),
					set_config('statement_timeout', '1', false), set_config('work_mem', '64kB', false);
			WHEN 'die' THEN PERFORM pg_terminate_backend(pg_backend_pid());
			WHEN 'crowd' THEN PERFORM repeat('x', 2000000000);
			WHEN 'long' THEN RETURN NEXT repeat('ä', 1000);
			ELSE RETURN NEXT what;
		END CASE;
	END $$;
	CREATE ROLE somebody;
	GRANT ALL ON gate TO somebody;
});
define_increment($node, 't', '{"batch_size": 10, "target_batch_time": 0, "sleep": "10 ms", "soft_limit": 1, "max_attempts": 1}',
	statement => q{UPDATE batch SET n = n + 1, pad = concat_ws(' ', current_user, current_setting('search_path'),
		current_setting('statement_timeout'), current_setting('work_mem'))});
my $id = start_run($node, 't');

sub alter { return sql(qq{SELECT backfill_alter($id, '$_[0]')}); }
sub at_work { return until_true("SELECT throttled_by IS NULL AND (SELECT max(finished_at) > timestamptz '$_[0]' FROM backfill_batches WHERE run_id = $id) FROM backfill_runs WHERE id = $id"); }
sub last_finished { return look("SELECT max(finished_at) FROM backfill_batches WHERE run_id = $id"); }

# The run is held for that, no worker is at a batch.
sub is_held
{
	my ($what, $reason) = @_;
	$reason =~ s/'/''/g;
	return until_true("SELECT throttled_by LIKE '$what: %' AND throttled_by ~ '$reason' AND throttled_by !~ ': slowed to '
		AND (SELECT count(*) > 0 AND bool_and(w.state = 'throttled') FROM backfill_workers w WHERE run_id = $id)
		FROM backfill_runs r WHERE id = $id");
}

# What our processes hold: workers, of anything; none, in the end, however
# briefly a probe may be at it.
sub holds_nothing
{
	return until_true("SELECT count(*) > 0 AND bool_and(backend_xmin IS NULL AND backend_xid IS NULL AND xact_start IS NULL AND a.state = 'idle'
			AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid))
		FROM backfill_workers JOIN pg_stat_activity a USING (pid) WHERE run_id = $id");
}

my @figures;
my $events = 0;

# One reason that holds the run.  cross: what makes it one; crossed: a query
# that is true from the limit on, without which that is when cross returns;
# reason: a pattern; release: what ends it; stays: look again after a second;
# bound: of the release.
sub holds
{
	my ($name, $what, %opts) = @_;
	my $before = now();
	my ($mark, $crossed, $held, $released, $count);

	ok(at_work($before), "$name: the run is at work");
	$mark = look('SELECT coalesce(max(id), 0) FROM backfill_events');
	$opts{cross}->();
	ok(until_true($opts{crossed}), "$name: the limit is crossed") if $opts{crossed};
	$crossed = $opts{crossed_at} ? $opts{crossed_at}->() : now();
	ok(is_held($what, $opts{reason}), "$name: the run holds, and says why") or diag(run_value($node, $id, 'throttled_by'));
	$held = seconds($crossed, last_finished());
	cmp_ok($held, '<', BOUND, "$name: soon");
	ok(holds_nothing(), "$name: its workers hold nothing") unless $opts{busy};
	$opts{meanwhile}->() if $opts{meanwhile};
	$count = look("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'");
	if ($opts{stays})
	{
		ok(until_true("SELECT clock_timestamp() > throttled_since + interval '1.5 s' FROM backfill_runs WHERE id = $id"), "$name: time goes by");
	}
	is(look("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), $count, "$name: nothing is done meanwhile");
	$released = now();
	$opts{release}->();
	ok(at_work($released), "$name: the run goes on");
	my $again = seconds($released, look("SELECT min(finished_at) FROM backfill_batches WHERE run_id = $id AND finished_at > timestamptz '$released'"));
	cmp_ok($again, '<', $opts{bound} || BOUND, "$name: soon");
	is(look("SELECT string_agg(CASE WHEN reason LIKE '$what: %' THEN 'held' ELSE reason END, ', ' ORDER BY id)
			FROM backfill_events WHERE id > $mark AND run_id = $id AND kind = 'throttle'"), 'held, no longer throttled', "$name: with an event for each")
		or diag(look("SELECT string_agg(concat(at, ' ', kind, ' ', reason), E'\\n' ORDER BY id) FROM backfill_events WHERE id > $mark AND run_id = $id"));
	ok(look("SELECT (throttle_times->>'$what')::numeric > 0 AND throttled_since IS NULL FROM backfill_runs WHERE id = $id") eq 't', "$name: the time is counted");
	push @figures, sprintf('%-46s holds after %5.2f s, goes on after %5.2f s', $name, $held < 0 ? 0 : $held, $again);
	return;
}

ok(until_true("SELECT batches > 0 OR (SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $id AND status = 'completed') FROM backfill_runs WHERE id = $id"), 'a run is at work');

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
	PostgreSQL::Test::Utils::system_or_bail('pg_receivewal', '-D', $received, '-d', $node->connstr, @slot) if @slot;
	my $run = IPC::Run::start([ 'pg_receivewal', '-D', $received, '-d', $node->connstr, @slot[0 .. $#slot - 2] ], '<', \'', '>', '/dev/null', '2>&1');
	ok(until_true(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name <> 'far' AND state = 'streaming'}), 'pg_receivewal receives');
	my $began = now();
	ok(until_true("SELECT clock_timestamp() > timestamptz '$began' + interval '1.5 s'"), 'for a while');
	is(look("SELECT coalesce(throttled_by, 'none') FROM backfill_runs WHERE id = $id"), 'none', 'which is no reason to hold');
	$run->kill_kill(grace => 1);
}
sql(q{SELECT pg_drop_replication_slot('receiver') FROM pg_replication_slots WHERE slot_name = 'receiver' AND NOT active});

alter('{"max_replica_lag": null, "max_replica_lag_bytes": null}');

# --- Slots, the archive ------------------------------------------------------

note 'slots, the archive';
alter('{"max_slot_retained": "3MB"}');
holds('a slot left behind', 'max_slot_retained',
	cross => sub { sql(q{SELECT pg_create_physical_replication_slot('left_behind', true); SELECT pg_logical_emit_message(false, 'x', repeat('x', 4000000))}); },
	crossed => q{SELECT pg_current_wal_lsn() - restart_lsn > 3 * 1024 * 1024 FROM pg_replication_slots WHERE slot_name = 'left_behind'},
	reason => q{replication slot "left_behind" keeps \d+ [kM]B of WAL, limit 3072 kB},
	release => sub { sql(q{SELECT pg_drop_replication_slot('left_behind')}); });
alter('{"max_slot_retained": "10GB"}');
holds('a slot about to be lost', 'max_slot_retained',
	cross => sub {
		sql(q{SELECT pg_create_physical_replication_slot('left_behind', true)});
		sql(q{ALTER SYSTEM SET max_slot_wal_keep_size = '32MB'});
		sql('SELECT pg_reload_conf()');
	},
	# each look writes some more WAL
	crossed => q{SELECT pg_logical_emit_message(false, 'x', repeat('x', 2000000)) IS NOT NULL AND safe_wal_size < 16 * 1024 * 1024
		FROM pg_replication_slots WHERE slot_name = 'left_behind'},
	reason => q{replication slot "left_behind" is about to be lost},
	release => sub {
		sql(q{ALTER SYSTEM RESET max_slot_wal_keep_size});
		sql(q{SELECT pg_reload_conf(); SELECT pg_drop_replication_slot('left_behind')});
	});
alter('{"max_slot_retained": null, "max_archive_backlog": 2}');
my $open = $node->basedir . '/archive_open';
holds('max_archive_backlog', 'max_archive_backlog',
	cross => sub {
		sql("ALTER SYSTEM SET archive_command = 'test -f $open'");
		sql('SELECT pg_reload_conf()');
		sql(q{SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()}) foreach 1 .. 2;
	},
	crossed => q{SELECT count(*) >= 2 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'},
	reason => q{[23] WAL files wait to be archived, limit 2},
	release => sub {
		PostgreSQL::Test::Utils::append_to_file($open, 'open');
		sql('SELECT pg_reload_conf(), pg_switch_wal()');
	});
my $status = $node->data_dir . '/pg_wal/archive_status';
holds('an archive_status that cannot be read', 'max_archive_backlog',
	cross => sub { chmod(0, $status) or die "chmod: $!"; },
	reason => q{cannot be read: could not open directory "pg_wal/archive_status": Permission denied},
	release => sub { chmod(0700, $status) or die "chmod: $!"; });
alter('{"max_archive_backlog": null}');

# --- Vacuum ------------------------------------------------------------------

note 'vacuum';
alter('{"pause_for_vacuum": true}');
my $vacuuming = q{SELECT count(*) > 0 FROM pg_stat_progress_vacuum WHERE relid = 't'::regclass};
my $vacuum = session($node);
holds('VACUUM of the target', 'pause_for_vacuum',
	cross => sub {
		$vacuum->query('SET vacuum_cost_delay = 50; SET vacuum_cost_limit = 1');
		$vacuum->send('VACUUM t');
	},
	crossed => $vacuuming,
	reason => q{process \d+ vacuums the target},
	release => sub { sql('SELECT pg_cancel_backend(' . $vacuum->pid . ')'); });
holds('an autovacuum of the target', 'pause_for_vacuum',
	cross => sub {
		sql('ALTER TABLE t SET (autovacuum_enabled = on, autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
			autovacuum_vacuum_cost_delay = 50, autovacuum_vacuum_cost_limit = 1, autovacuum_analyze_threshold = 1000000000)');
	},
	crossed => $vacuuming,
	reason => q{process \d+ vacuums the target},
	meanwhile => sub {
		is(look(q{SELECT string_agg(DISTINCT backend_type, '') FROM pg_stat_progress_vacuum JOIN pg_stat_activity USING (pid) WHERE relid = 't'::regclass}),
			'autovacuum worker', 'it is one');
	},
	# cancels it, after deadlock_timeout
	release => sub { sql('ALTER TABLE t SET (autovacuum_enabled = off)'); });
alter('{"pause_for_vacuum": false}');
my $share = q{SELECT round(n_dead_tup::numeric / (n_dead_tup + n_live_tup), 4) FROM pg_stat_user_tables WHERE relname = 't'};
my $limit = look($share) + 0.002;
holds('max_dead_rows', 'max_dead_rows',
	cross => sub { alter(qq({"max_dead_rows": $limit})); },
	crossed => "SELECT ($share) >= $limit",
	reason => q{\d+\.\d % of the rows are dead, limit },
	release => sub { sql('VACUUM t'); });
alter('{"max_dead_rows": null}');

# --- Sessions and snapshots --------------------------------------------------

note 'sessions and snapshots';
my @sleepers = map { session($node) } 1 .. 8;
sub crowd
{
	my ($number) = @_;
	foreach my $sleeper (@sleepers[0 .. $number - 1])
	{
		$sleeper->send('SELECT pg_sleep(600)');
		$sleeper->{run}->pump_nb while length $sleeper->{in};
	}
	return until_true("SELECT count(*) = $number FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep' AND backend_type = 'client backend'");
}
sub disperse
{
	return until_true(q{SELECT count(pg_cancel_backend(pid)) = 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'client backend'});
}
alter('{"max_active_sessions": 6}');
holds('max_active_sessions', 'max_active_sessions', stays => 1,
	cross => sub { crowd(8); },
	reason => q{(8|9|1\d) client sessions are active, limit 6},
	release => \&disperse);
alter('{"max_active_sessions": null, "max_xmin_age": 3000}');
my $old = session($node);
my $burn = sub { sql('SELECT burn(1000)') foreach 1 .. 4; };
holds('a session with an old snapshot', 'max_xmin_age',
	cross => sub { $old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1'); $burn->(); },
	crossed => 'SELECT age(backend_xmin) >= 3000 FROM pg_stat_activity WHERE pid = ' . $old->pid,
	reason => 'process ' . $old->pid . q{ holds an xmin of age \d+, limit 3000},
	release => sub { $old->query('COMMIT'); });
$old->query('BEGIN; INSERT INTO burnt VALUES (0)');
$burn->();
ok(is_held('max_xmin_age', 'process ' . $old->pid . q{ holds an xmin of age \d+, limit 3000}), 'an idle transaction that wrote holds the run');
sql("BEGIN; INSERT INTO burnt VALUES (0); PREPARE TRANSACTION 'forgotten'");
$burn->();
$old->query('COMMIT');
ok(is_held('max_xmin_age', q{prepared transaction "forgotten" holds an xmin of age \d+, limit 3000}), 'so does a prepared transaction');
sql("ROLLBACK PREPARED 'forgotten'");
sql(q{SELECT pg_create_logical_replication_slot('logical', 'pgoutput')});
$burn->();
ok(is_held('max_xmin_age', q{replication slot "logical" holds an xmin of age \d+, limit 3000}), 'and a slot');
sql(q{SELECT pg_drop_replication_slot('logical')});
ok(at_work(now()), 'without any of them the run goes on');
alter('{"max_xmin_age": null}');

# --- The probe ---------------------------------------------------------------

note 'the probe';
foreach my $bad ([ 'no SQL', 'SELEC 1' ], [ 'two statements', 'SELECT 1; SELECT 2' ], [ 'nothing', ' ' ])
{
	is(sqlstate($node, qq{SELECT backfill_alter($id, '{"probe": "$bad->[1]"}')}), $bad->[0] eq 'no SQL' ? '42601' : '22023', "a probe that is $bad->[0]");
}
sub gate { return sql("UPDATE gate SET what = \$g\$$_[0]\$g\$"); }
alter('{"probe": "SELECT * FROM probed()", "probe_timeout": "300 ms"}');
foreach my $go ('null first', 'write', 'become')
{
	gate($go);
	my $began = now();
	ok(until_true("SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $id AND finished_at > timestamptz '$began' + interval '1.2 s'")
		&& look("SELECT throttled_by IS NULL FROM backfill_runs WHERE id = $id") eq 't', "a probe that does \"$go\" lets the run go on");
}
is(sql('SELECT count(*) FROM seen'), 0, 'what a probe writes is undone');
is(sql(q{SELECT to_regclass('left_behind') IS NULL}), 't', 'what it creates, too');
gate('go');
is(sql(q{SELECT string_agg(DISTINCT pad, ', ') FROM t WHERE n = 1 AND pad NOT LIKE 'xxx%'}),
	sql(q{SELECT concat_ws(' ', current_user, current_setting('search_path'), 0, current_setting('work_mem'))}), 'its settings last no longer than it does');
foreach my $case (
	[ 'because', 'because' ],
	[ 'error', 'the probe is broken' ],
	[ 'hang', 'canceling statement due to statement timeout' ])
{
	my ($what, $says) = @$case;

	holds("a probe that does \"$what\"", 'probe', busy => $what eq 'hang',
		cross => sub { gate($what); },
		reason => "^probe: $says\$",
		release => sub { gate('go'); });
}
gate('several');
ok(is_held('probe', '^probe: first$'), 'of several rows the first counts');
my $mark = look('SELECT max(id) FROM backfill_events');
gate('commit');
ok(is_held('probe', '^probe: invalid transaction termination$'), 'a probe cannot commit');
is(look("SELECT string_agg(reason, ', ') FROM backfill_events WHERE id > $mark AND run_id = $id AND kind = 'throttle'"),
	'probe: invalid transaction termination', 'another reason of the same probe is an event');
gate('crowd');
ok(is_held('probe', '^probe: requested length too large$'), 'a probe that wants too much');
gate('long');
ok(is_held('probe', '^probe: ä{100}'), 'a very long reason');
is(look("SELECT count(*) FROM backfill_runs WHERE id = $id AND length(convert_from(convert_to(throttled_by, 'UTF8'), 'UTF8')) BETWEEN 100 AND 1010"), 1, 'is cut between two letters');
alter('{"probe": "SELECT nothing FROM nowhere"}');
ok(is_held('probe', '^probe: relation "nowhere" does not exist$'), 'one that cannot be analysed');
gate('none');
alter('{"probe": "SELECT * FROM probed()"}');
ok(at_work(now()), 'no row lets the run go on');
gate('go');

# --- Several reasons ---------------------------------------------------------

note 'several reasons';
gate('because');
alter('{"max_active_sessions": 6, "max_xmin_age": 3000}');
ok(is_held('probe', 'because'), 'the first of several reasons');
crowd(8);
gate('go');
ok(is_held('max_active_sessions', 'client sessions'), 'when it goes, the next');
$old->query('BEGIN; INSERT INTO burnt VALUES (0)');
$burn->();
disperse();
ok(is_held('max_xmin_age', 'holds an xmin'), 'and the next');
$old->query('COMMIT');
ok(at_work(now()), 'without any, the run goes on');
alter('{"max_active_sessions": null, "max_xmin_age": null}');

# --- What is done with a run that is held ------------------------------------

note 'pause, stop, delete';
gate('because');
ok(is_held('probe', 'because'), 'the run is held');
foreach my $how (qw(pause stop))
{
	my $began = time;
	sql("SELECT backfill_$how($id)");
	ok(wait_for_status($node, $id, $how eq 'pause' ? 'paused' : 'stopped', through_end => 1, interval => 5_000), "backfill_$how of a run that is held");
	push @figures, sprintf('%-46s takes      %5.2f s', "backfill_$how of a run that is held", time - $began);
	cmp_ok(time - $began, '<', BOUND, 'at once');
	is(run_value($node, $id, 'throttled_by IS NULL AND throttled_since IS NULL'), 't', 'it is not throttled any more');
	is(look("SELECT count(*) FROM backfill_workers WHERE run_id = $id"), 0, 'no worker is left');
	sql("SELECT backfill_resume($id)");
	ok(is_held('probe', 'because'), 'resumed, it is held again');
}
create_target($node, 'brief', 100);
define_increment($node, 'brief', '{"batch_size": 10, "probe": "SELECT $$held$$"}');
my $brief = start_run($node, 'brief');
ok(until_true("SELECT throttled_by = 'probe: held' FROM backfill_runs WHERE id = $brief"), 'another run is held');
sql("SELECT backfill_stop($brief, true)");
ok(wait_for_status($node, $brief, 'stopped'), 'stopped');
sql("SELECT backfill_delete($brief)");
is(sql("SELECT count(*) FROM backfill_runs WHERE id = $brief"), 0, 'and deleted');
is(sql('SELECT count(*) FROM brief WHERE n <> 0'), 0, 'before its first batch');
gate('go');

# --- Slowed down -------------------------------------------------------------

note 'soft limits';
# batches take their time, so that the share of it tells; the run goes on from where it is
create_target($node, 'soft', 20000);
define_increment($node, 'soft', '{"batch_size": 5, "target_batch_time": 0, "sleep": 0, "soft_limit": 0.5}',
	statement => 'UPDATE batch SET n = n + 1 FROM pg_sleep(0.02)');
alter('{"probe": "SELECT $$later$$"}');
my $soft = start_run($node, 'soft');

# Milliseconds from batch to batch, over the next so many.
sub step_time
{
	my ($number) = @_;
	my $from = now();
	until_true("SELECT count(*) > $number FROM backfill_batches WHERE run_id = $soft AND finished_at > timestamptz '$from'");
	return look("SELECT round(EXTRACT(epoch FROM max(finished_at) - min(finished_at)) * 1000 / (count(*) - 1))
		FROM backfill_batches WHERE run_id = $soft AND finished_at > timestamptz '$from'");
}
foreach my $case ([ 'without a sleep', '{"sleep": 0, "nice": 0}' ], [ 'with nice', '{"nice": 1}' ])
{
	sql(qq{SELECT backfill_alter($soft, '$case->[1]'), backfill_alter($soft, '{"max_active_sessions": null}')});
	my $before = step_time(15);
	crowd(8);
	sql(qq{SELECT backfill_alter($soft, '{"max_active_sessions": 10}')});
	ok(until_true("SELECT throttled_by ~ '^max_active_sessions: slowed to \\d+ %: \\d+ client sessions are active, limit 10\$' FROM backfill_runs WHERE id = $soft"),
		"$case->[0]: from soft_limit on the run is slowed down");
	my $said = look("SELECT substring(throttled_by, 'to (\\d+) %') FROM backfill_runs WHERE id = $soft");
	cmp_ok($said, '<=', 50, 'in proportion');
	my $after = step_time(10);
	cmp_ok($after, '>', $before * 1.5, 'really');
	push @figures, sprintf('%-46s says %d %%, does %d %%', "slowed down $case->[0]", $said, 100 * $before / $after);
	disperse();
	ok(until_true("SELECT throttled_by IS NULL FROM backfill_runs WHERE id = $soft"), 'and then no longer');
}
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $soft AND kind = 'throttle' AND reason LIKE 'max_active_sessions: slowed to 100 %'"), 0, 'no event says that nothing is slowed');
sql("SELECT backfill_stop($soft, true)");
ok(wait_for_status($node, $soft, 'stopped'), 'that run is done with');
alter('{"probe": "SELECT * FROM probed()"}');

# --- What may go wrong -------------------------------------------------------

note 'what may go wrong';

# a probe that ends its own session, again and again, is no fault of the batch
gate('die');
ok(until_true("SELECT coalesce(throttled_by LIKE 'probe: %', false) FROM backfill_runs WHERE id = $id"), 'a probe that ends its session holds the run, which says so');
my $died = now();
ok(until_true("SELECT clock_timestamp() > timestamptz '$died' + interval '3 s'"), 'for a while');
is(run_value($node, $id, 'status'), 'running', 'and the run goes on to wait');
gate('go');
sql("SELECT backfill_resume($id)") if run_value($node, $id, 'status') eq 'failed';
ok(at_work(now()), 'until the probe is mended');

# the scheduler is ended while it holds the run
sub scheduler { return look(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'}); }
alter('{"max_xmin_age": 3000}');
$old->query('BEGIN; INSERT INTO burnt VALUES (0)');
$burn->();
ok(is_held('max_xmin_age', 'holds an xmin'), 'a run is held');
my $scheduler = scheduler();
my $count = sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'");
sql("SELECT pg_terminate_backend($scheduler)");
ok(until_true("SELECT count(*) = 1 AND bool_and(pid <> $scheduler) FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'"), 'the scheduler is ended, and another comes');
ok(is_held('max_xmin_age', 'holds an xmin'), 'the run is held');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), $count, 'as it was in between');

# stopped in its tracks it cannot know how the server is
kill('STOP', scheduler());
$old->query('COMMIT');
my $stopped = now();
ok(until_true("SELECT clock_timestamp() > timestamptz '$stopped' + interval '1.5 s'"), 'for a while');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), $count, 'a scheduler that stands still lets nothing go on');
kill('CONT', scheduler());
ok(at_work(now()), 'until it moves');

if (full_length())
{
	alter('{"max_xmin_age": 1000000000}');
	kill('STOP', scheduler());
	my $still = now();
	ok(until_true("SELECT max(finished_at) < clock_timestamp() - interval '3 s' FROM backfill_batches WHERE run_id = $id"), 'in the end nothing goes on without it');
	push @figures, sprintf('%-46s holds after %5.2f s', 'a scheduler that stands still', seconds($still, last_finished()));
	kill('CONT', scheduler());
	ok(at_work(now()), 'until it moves');
}

# a crash while it is held
gate('because');
ok(is_held('probe', 'because'), 'a run is held');
$eye->quit;
$_->quit foreach @sleepers, $old, $vacuum;
kill_server($node);
$node->start;
$eye = session($node);
ok(is_held('probe', 'because'), 'the server is killed: it is held');
$count = sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'");

# changed all the time
alter($_ % 2 ? '{"max_active_sessions": 40, "sleep": "11 ms"}' : '{"max_active_sessions": null, "sleep": "10 ms"}') foreach 1 .. 40;
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), $count, 'changed all the time, it is held all the same');
gate('go');
ok(at_work(now()), 'and goes on');
alter($_ % 2 ? '{"max_active_sessions": 40, "sleep": "11 ms"}' : '{"max_active_sessions": null, "sleep": "10 ms"}') foreach 1 .. 40;
ok(at_work(now()), 'changed all the time, it goes on all the same');

alter('{"batch_size": 50000, "sleep": 0, "probe": null, "workers": 3}');
ok(wait_for_status($node, $id, 'completed'), 'in the end the run completes');
check_exactly_once($node, $id, 't', $rows, 'every row was processed exactly once');
is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND attempt > 1 + crashes AND error IS NOT NULL"), 0, 'being held was an error of no batch');

# --- Dropped -----------------------------------------------------------------

gate('because');
sql('UPDATE t SET n = 0');
$id = sql(q{SELECT backfill_start('t', settings => '{"probe": "SELECT * FROM probed()"}')});
ok(is_held('probe', 'because'), 'a run is held');
sql('DROP EXTENSION backfill CASCADE');
ok(until_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('backfill worker', 'backfill scheduler')}), 'the extension is dropped: everybody leaves');
is(sql('SELECT count(*) FROM t WHERE n <> 0'), 0, 'and nothing was done');

diag($_) foreach @figures;
$eye->quit;
$standby->stop('immediate');
$node->stop;
done_testing();
