# What the tests of hooks have in common: a cluster, roles, a table "v" with a
# definition of the same name, hooks for it, and questions to ask.
#
# alice owns the definitions; bob is a stranger; runs are started, stopped and
# resumed by a superuser, whose rights no hook may get hold of.

package BackfillTest::Hooks;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

our @EXPORT = qw(
  $super $veto %statuses hooks_node
  make_target make_v hook_function hook drop_hooks create_deferred
  transitions hook_events start fresh errors_of done resumes hangs
);

our $super;

our %statuses = (
	run => [qw(pending enqueued running paused completed failed stopped)],
	batch => [qw(pending running completed failed stopped)]);

our $veto = q{BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'HK001', DETAIL = 'because', HINT = 'wait'; END};

# All that hooks write goes to the table log, with whom they run as, and the
# status that the run or the batch has in their eyes.  A run calls step() for
# every row, which does what the table behave says about it.
sub hooks_node
{
	one_node('hooks', conf => "deadlock_timeout = 100ms\n");
	$super = sql('SELECT current_user');
	sql(qq{
		CREATE ROLE alice LOGIN;
		CREATE ROLE bob LOGIN;
		CREATE ROLE carol LOGIN;
		CREATE ROLE staff;
		GRANT alice TO carol;
		GRANT staff TO alice;
		CREATE SCHEMA app AUTHORIZATION alice;
		CREATE SCHEMA bob AUTHORIZATION bob;
		GRANT USAGE ON SCHEMA bob TO PUBLIC;
		ALTER DATABASE postgres SET search_path = app, public;
	});
	sql(q{
		GRANT USAGE ON SCHEMA app TO PUBLIC;
		CREATE TABLE log (seq bigint GENERATED ALWAYS AS IDENTITY, label text, e backfill_event, seen text,
			curr text DEFAULT current_user, sess text DEFAULT session_user,
			super text DEFAULT current_setting('is_superuser'),
			backend text);
		GRANT ALL ON log TO PUBLIC;
		CREATE FUNCTION note(label text, e backfill_event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO log (label, e, backend, seen) VALUES (label, e,
				(SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()),
				CASE e.object WHEN 'run' THEN (SELECT status FROM backfill_runs WHERE id = e.run_id)
				ELSE (SELECT status FROM backfill_batches WHERE run_id = e.run_id AND number = e.batch AND part = 0) END);
		END $$;
	});
	create_step($node);
	return;
}

# A table of alice's with a definition of the same name.
sub make_target
{
	my ($name, $rows, $settings, %opts) = @_;
	create_target($node, $name, $rows);
	sql("ALTER TABLE $name OWNER TO alice");
	my $parameters = $opts{parameters} ? "parameters => '$opts{parameters}'," : '';
	as('alice', qq{SELECT backfill_define('$name', '$name', 'UPDATE batch SET n = n + step(id)', $parameters
		settings => '$settings')});
}

# A function of alice's that can be a hook, with that body.
sub hook_function
{
	my ($name, $body, %opts) = @_;
	my $role = $opts{role} || 'alice';
	as($role, qq{CREATE OR REPLACE FUNCTION $name(e backfill_event) RETURNS void LANGUAGE plpgsql @{[$opts{options} || '']}
		AS \$f\$ $body \$f\$});
}

# A hook with that body for the definition "v", whatever function it is.
my $hooks = 0;
sub hook
{
	my ($event, $body, %opts) = @_;
	my $function = 'hook_' . ++$hooks;
	hook_function($function, $body, %opts);
	as('alice', "SELECT backfill_on('$event', '$function', '" . ($opts{name} || 'v') . "')");
	return $function;
}

sub drop_hooks
{
	sql(q{SELECT backfill_off(concat_ws(' ', phase, object, status), hook, name) FROM backfill_hooks});
}

# What a run of the definition went through, as the events have it.
sub transitions
{
	my ($id) = @_;
	return sql(qq{SELECT string_agg(status, ' ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind = 'transition'});
}

# What hooks did to the run, as the events have it.
sub hook_events
{
	my ($id) = @_;
	return sql(qq{SELECT string_agg(sqlstate || ' ' || reason, E'\\n' ORDER BY id)
		FROM backfill_events WHERE run_id = $id AND kind = 'hook'});
}

sub start { return sql("SELECT backfill_start('" . ($_[0] || 'v') . "')"); }

# The table and the definition "v", which most hooks are for.
sub make_v
{
	return make_target('v', 30, '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "retry_delay": "20 ms", "max_attempts": 3}');
}

# A table as it was, and no hook.
sub fresh
{
	drop_hooks();
	ok(wait_for($node, 'SELECT count(*) = 0 FROM backfill_workers'), 'no worker is left')
	  or sql(q{SELECT pg_terminate_backend(pid) FROM backfill_workers});
	sql(q{DELETE FROM behave; TRUNCATE log; UPDATE v SET n = 0});
	sql(q{ALTER SEQUENCE once RESTART});
}

sub errors_of { return run_value($node, $_[0], 'sqlstate, error, error_detail, error_hint'); }
sub done { return sql('SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n > 1) FROM v'); }

# What is left of a run when the hooks are gone and it is resumed: nothing.
sub resumes
{
	my ($id, $what) = @_;
	drop_hooks();
	sql('DELETE FROM behave');
	sql("SELECT backfill_resume($id)");
	ok(settles($id, 'completed'), "$what: without the hook the run is resumed");
	check_exactly_once($node, $id, 'v', 30, "$what: every row was processed exactly once");
}

# A table with a trigger that fires at the end of the transaction: 1 fails, what
# is more yields.
sub create_deferred
{
	return as('alice', q{CREATE TABLE deferred (i int);
	CREATE FUNCTION deferred() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.i = 1 THEN
			RAISE EXCEPTION 'deferred' USING ERRCODE = 'HK006';
		END IF;
		PERFORM backfill_yield();
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION deferred()});
}

# A worker hangs in a hook.
sub hangs
{
	my ($id) = @_;
	return wait_for($node, "SELECT count(*) = 1 FROM backfill_workers w JOIN pg_stat_activity a USING (pid)
		WHERE run_id = $id AND wait_event = 'PgSleep'");
}

1;
