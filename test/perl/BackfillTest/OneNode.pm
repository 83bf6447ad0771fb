# Short words for the tests that have one cluster, which one_node makes: then
# $node is the cluster that sql, as, value and the others ask.

package BackfillTest::OneNode;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use Test::More;

our @EXPORT = qw(
  $node one_node sql as value refusal state_of
  settles at_gate nobody_left
);

our $node;

# Make the cluster; see make_node.
sub one_node
{
	my ($name, %opts) = @_;
	return $node = make_node($name, %opts);
}

sub sql { return query_ok($node, join(';', @_)); }
sub as { return query_ok($node, $_[1], flags => [ '-U', $_[0] ]); }
sub value { return run_value($node, @_); }

# What SQL says when it fails, with SQLSTATE, detail and hint.
sub refusal
{
	my ($sql) = @_;
	my ($rc, $out, $err) = query($node, $sql, flags => [ '-v', 'VERBOSITY=verbose' ]);
	return $rc == 0 ? "no error: $out" : $err;
}

# The SQLSTATE that a command of a role raises.
sub state_of
{
	my ($role, $sql) = @_;
	return sqlstate($node, $sql, flags => [ '-U', $role, '-v', 'VERBOSITY=sqlstate' ]);
}

# The run has no open request, and that status.
sub settles
{
	my ($id, $status) = @_;
	return wait_for($node, "SELECT status || coalesce(' ' || requested, '') FROM backfill.run WHERE id = $id", expected => $status);
}

# The run has no worker any more.
sub nobody_left
{
	my ($id, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(wait_for($node, "SELECT count(*) = 0 FROM backfill_workers WHERE run_id = $id"), $name);
}

# A worker of the run has a batch in hand that waits at a gate.
sub at_gate
{
	my ($id, $batch) = @_;
	return wait_for($node, "SELECT count(*) = 1 FROM backfill_workers w JOIN pg_stat_activity a USING (pid)
		WHERE run_id = $id AND batch = $batch AND wait_event = 'PgSleep'");
}

1;
