# What the tests of "prepare", "verify" and "finish" have in common: a cluster with a
# table "t", a table that the statements of what is run once write to, and a gate.

package BackfillTest::Finish;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use BackfillTest::OneNode;

our @EXPORT = qw(
  $rows finish_node create_mallory create_steps start events
  $waits step create_gate
);

our $rows = 2_000;

# The cluster, with a table t.
sub finish_node
{
	one_node('main');
	create_target($node, 't', $rows);
	return;
}

# Somebody with bad intentions, and a schema of that role.
sub create_mallory
{
	return sql('CREATE ROLE mallory LOGIN', 'CREATE SCHEMA den AUTHORIZATION mallory');
}

# Statements of prepare and finish write down here that they ran, as whom and how.
sub create_steps
{
	return sql('CREATE TABLE steps (step int, who text, path text, isolation text, readonly text)');
}

sub step { return "INSERT INTO steps VALUES ($_[0], current_user || ' ' || session_user, current_setting('search_path'), current_setting('transaction_isolation'), current_setting('transaction_read_only'))"; }

# Whether somebody waits for the gate, an advisory lock.
our $waits = "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";

# A function for a scope that waits at the gate at one row.
sub create_gate
{
	return sql(q{CREATE FUNCTION gate(i bigint, n int) RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN
			IF i = 10000 AND n > 0 THEN
				PERFORM pg_advisory_xact_lock_shared(4711);
			END IF;
			RETURN n = 0;
		END $$});
}

# Define a backfill of the table of that name and start it.
sub start
{
	my ($table, %opts) = @_;
	my $statement = $opts{statement} || 'UPDATE batch SET n = n + 1';
	my $role = $opts{role} || 'postgres';
	my $settings = $opts{settings} || '"sleep": 0';
	sql(qq{SET ROLE $role; SELECT backfill_define('$table', '$table', \$s\$$statement\$s\$} . ($opts{scope} ? ", scope => \$s\$$opts{scope}\$s\$" : '')
		. join('', map { defined $opts{$_} ? ", $_ => \$f\$$opts{$_}\$f\$" : '' } qw(prepare finish)) . ($opts{parameters} ? ", parameters => '$opts{parameters}'" : '') . qq{, settings => '{"batch_size": 300, "target_batch_time": 0, "retry_delay": "10 ms", $settings}')});
	return sql("SET ROLE $role; SELECT backfill_start('$table')");
}

sub events
{
	my ($id, $kind) = @_;
	return sql("SELECT string_agg(reason, ', ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind = '$kind'");
}

1;
