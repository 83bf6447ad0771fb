# How long events, and the batches and errors of runs, are kept.
#
# alice owns the definitions.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('events');

sql(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE carol LOGIN;
	CREATE ROLE mon LOGIN;
	GRANT alice TO carol;
	GRANT pg_monitor TO mon;
	CREATE SCHEMA app AUTHORIZATION alice;
	ALTER DATABASE postgres SET search_path = app, public;
});
sql(q{
	GRANT USAGE ON SCHEMA app TO PUBLIC;
});
create_step($node);

# A table of alice's with a definition of that name, or of another.
sub make_target
{
	my ($table, $rows, $settings, %opts) = @_;
	my $name = $opts{name} || $table;
	my $more = $opts{more} || '';

	create_target($node, $table, $rows);
	sql("ALTER TABLE $table OWNER TO alice");
	as('alice', qq{SELECT backfill_define(\$n\$$name\$n\$, '$table', 'UPDATE batch SET n = n + step(id)', settings => '$settings' $more)});
}

sub nobody { return ok(wait_for($node, 'SELECT count(*) = 0 FROM backfill_workers'), 'no worker is left'); }

# ---------------------------------------------------------------------------
note 'how long they are kept';

is(sql(q{SELECT setting, unit, context, min_val FROM pg_settings WHERE name = 'backfill.event_retention'}), '129600|min|sighup|-1',
	'90 days unless told');

sub retention
{
	my ($value) = @_;
	sql("ALTER SYSTEM SET backfill.event_retention = '$value'");
	sql('SELECT pg_reload_conf()');
	ok(wait_for($node, 'SHOW backfill.event_retention', expected => $value), "backfill.event_retention = $value");
}

# Have a scheduler start, which prunes, and leave.
make_target('tick', 1, '{"sleep": 0}');

sub tick
{
	ok(wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'}), 'no scheduler is there');
	my $tick = sql(q{SELECT backfill_start('tick')});
	ok(settles($tick, 'completed'), 'one comes');
	ok(wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'backfill scheduler'}), 'and goes');
	return $tick;
}

# Runs in every state, with batches and errors.
my %run;
foreach my $state ('old', 'young', 'stopped', 'failed', 'paused')
{
	make_target("r_$state", 100, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "on_error": "skip", "max_error_rate": 1}');
	sql(q{DELETE FROM behave; INSERT INTO behave VALUES (150, 'fail')});
	sql("INSERT INTO behave VALUES (550, 'gate')") if $state =~ /stopped|failed|paused/;
	$run{$state} = as('alice', "SELECT backfill_start('r_$state')");
	if ($state =~ /stopped|failed|paused/)
	{
		ok(at_gate($run{$state}, 6), 'half of a run is done');
		as('alice', "SELECT backfill_alter($run{$state}, '{\"on_error\": \"fail\"}')") if $state eq 'failed';
		as('alice', "SELECT backfill_pause($run{$state})") if $state eq 'paused';
		as('alice', "SELECT backfill_stop($run{$state})") if $state eq 'stopped';
		sql($state eq 'failed' ? "UPDATE behave SET id = 650, what = 'fail' WHERE id = 550" : 'DELETE FROM behave WHERE id = 550');
	}
	ok(settles($run{$state}, $state =~ /old|young/ ? 'completed' : $state), "a run that is $state");
}
sql('DELETE FROM behave');
nobody();

# What there is of a run: events, batches, errors.
sub kept
{
	my ($id) = @_;
	return sql(qq{SELECT (SELECT count(*) > 0 FROM backfill_events WHERE run_id = $id), (SELECT count(*) FROM backfill_batches WHERE run_id = $id),
		(SELECT count(*) FROM backfill_errors WHERE run_id = $id)});
}
my %before = map { $_ => kept($run{$_}) } keys %run;
# a divided batch has parts
like($before{old}, qr/^t\|[1-9]\d+\|1$/, 'there are events, batches and errors');
my $summary = 'status, batches, rows_scanned, rows_affected, wal_bytes, progress, started_at, finished_at';
my %summary = map { $_ => run_value($node, $run{$_}, $summary) } keys %run;

# by their age
tick();
is(kept($run{$_}), $before{$_}, "young: all of $_ is kept") foreach sort keys %run;
sql(qq{UPDATE backfill.run SET finished_at = finished_at - interval '91 days', started_at = started_at - interval '91 days'
	WHERE id IN ($run{old}, $run{stopped}, $run{failed})});
sql(qq{UPDATE backfill.event SET at = at - interval '91 days' WHERE run_id IN ($run{old}, $run{stopped}, $run{failed}, $run{paused})});
$summary{$_} = run_value($node, $run{$_}, $summary) foreach keys %run;
retention('-1');
tick();
is(kept($run{$_}), $before{$_}, "-1: all of $_ is kept") foreach sort keys %run;
retention('90d');
tick();
is(kept($run{old}), 'f|0|0', 'of a run that was completed 91 days ago nothing is kept');
is(kept($run{young}), $before{young}, 'of a young one all is');
foreach my $state ('stopped', 'failed', 'paused')
{
	is(kept($run{$state}), 'f' . substr($before{$state}, 1), "of one that is $state the batches and the errors are kept, however old");
}
is(run_value($node, $run{$_}, $summary), $summary{$_}, "the row of $_ is what it was") foreach sort keys %run;
like(sql("SELECT backfill_retry($run{old})"), tries(0), 'there is nothing left to retry of the old one');
is(run_value($node, $run{old}, 'status'), 'completed', 'which stays completed');

# at once
retention('0');
tick();
is(kept($run{young}), 'f|0|0', '0: of a completed run nothing is kept');
is(kept($run{$_}), 'f' . substr($before{$_}, 1), "0: the batches and errors of one that is $_ are") foreach 'stopped', 'failed', 'paused';
retention('90d');
foreach my $state ('stopped', 'failed', 'paused')
{
	sql("SELECT backfill_resume($run{$state})");
	ok(settles($run{$state}, 'completed'), "the run that was $state is resumed");
	check_parts($node, $run{$state}, "r_$state", 'no row was processed twice');
	is(sql("SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n > 1) FROM r_$state"), '99|0', 'and all but one were');
	like(sql("SELECT backfill_retry($run{$state})"), tries(1), 'that one can still be retried');
	ok(wait_for($node, "SELECT errors = 0 FROM backfill_runs WHERE id = $run{$state}") && settles($run{$state}, 'completed'), 'and is');
	check_parts($node, $run{$state}, "r_$state", 'every row was processed exactly once');
}
nobody();

# A run that is being retried while others are pruned, in either order.
sql(q{INSERT INTO behave VALUES (150, 'fail')});
make_target('again', 100, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "on_error": "skip", "max_error_rate": 1}');
my $again = as('alice', q{SELECT backfill_start('again')});
ok(settles($again, 'completed'), 'a run that skipped a row');
nobody();
sql('DELETE FROM behave');
retention('0');
my $session = session($node);
$session->query('BEGIN');
like($session->query("SELECT backfill_retry($again)"), tries(1), 'a session retries it, and has not committed');
my $tick = sql(q{SELECT backfill_start('tick')});
ok(settles($tick, 'completed'), 'a scheduler prunes meanwhile, and waits for nobody');
ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_events WHERE run_id = $again"), 'the events of that run are gone');
is(sql("SELECT count(*) > 10 FROM backfill_batches WHERE run_id = $again"), 't', 'its batches are not');
$session->query('COMMIT');
$session->quit;
ok(wait_for($node, "SELECT n = 1 FROM again WHERE id = 150") && settles($again, 'completed'), 'the row is retried');
is(sql('SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n > 1) FROM again'), '100|0', 'every row was processed exactly once');

$node->stop;
done_testing();
