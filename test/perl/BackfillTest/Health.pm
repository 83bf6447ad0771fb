# What the tests of health have in common: one long run, whose settings are
# changed as it goes, and what is looked at each time that a measure holds it:
# how soon it holds and goes on, what it says meanwhile, and that its workers
# hold nothing.
#
# It should take two seconds from the limit to the hold and back.  The figures
# are printed; the bounds of the tests only keep them from hanging.

package BackfillTest::Health;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use BackfillTest::OneNode;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  $id $eye @figures BOUND health_node completes over
  look until_true now seconds alter at_work last_finished is_held holds
  gate crowd disperse burn
);

# What a crowded machine may take for what should take two seconds.
use constant BOUND => 15;

our ($id, $eye, @figures);
my @sleepers;

# Rows that take all of the test, ten at a time.
my $rows = 120_000;

# The cluster and the run, which is at work.
sub health_node
{
	one_node('health', streaming => 'logical', conf => qq{
max_connections = 50
wal_level = logical
max_wal_size = 1GB
archive_mode = on
archive_command = 'true'
autovacuum_naptime = 1s
deadlock_timeout = 100ms
});
	# a session that stays: looking is quick
	$eye = session($node);

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
	$id = start_run($node, 't');
	ok(until_true("SELECT batches > 0 OR (SELECT count(*) > 0 FROM backfill_batches WHERE run_id = $id AND status = 'completed') FROM backfill_runs WHERE id = $id"), 'a run is at work');
	return;
}

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

# Have the gate say what the probe does.
sub gate { return sql("UPDATE gate SET what = \$g\$$_[0]\$g\$"); }

# So many sessions are active; none is.
sub crowd
{
	my ($number) = @_;

	@sleepers = map { session($node) } 1 .. 8 unless @sleepers;
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

# Let some thousand transaction ids go by.
sub burn { sql('SELECT burn(1000)') foreach 1 .. 4; return; }

# Whatever it has been through, the run completes.
sub completes
{
	alter('{"batch_size": 50000, "sleep": 0, "probe": null, "workers": 3}');
	ok(wait_for_status($node, $id, 'completed'), 'in the end the run completes');
	check_exactly_once($node, $id, 't', $rows, 'every row was processed exactly once');
	is(sql("SELECT count(*) FROM backfill_batches WHERE run_id = $id AND attempt > 1 + crashes AND error IS NOT NULL"), 0, 'being held was an error of no batch');
	return;
}

# The end of the test.
sub over
{
	diag($_) foreach @figures;
	$_->quit foreach @sleepers, $eye;
	$node->stop;
	return done_testing();
}

1;
