# What the tests with several databases have in common: the cluster, a gate
# that batches wait at, and questions to ask of a database.

package BackfillTest::Databases;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  $node databases
  sql value becomes comes_true log_since ours
  close_gate open_gate forget_gate gated during
  %gates $gated $gated_settings $in_batch
);

our $node;

sub sql { my ($sql, $db) = @_; return query_ok($node, $sql, db => $db || 'postgres'); }
sub value { my ($id, $what, $db) = @_; return run_value($node, $id, $what, db => $db || 'postgres'); }

# Wait for a status; say what stands in the way otherwise.
sub becomes { my ($id, $status, $db) = @_; return wait_for_status($node, $id, $status, db => $db || 'postgres'); }
sub comes_true { my ($sql, $db) = @_; return wait_for($node, $sql, db => $db || 'postgres'); }

# The server log since the last question.
my $log_position = 0;
sub log_since
{
	my $log = slurp_file($node->logfile, $log_position);
	$log_position = -s $node->logfile;
	return $log;
}

# Processes of ours in a database.
sub ours
{
	my ($db) = @_;
	return "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '$db' AND backend_type LIKE 'backfill %'";
}

# A gate that batches wait at, as an advisory lock of a session.
our %gates;
sub close_gate
{
	my ($db) = @_;
	$gates{$db} ||= session($node, db => $db);
	$gates{$db}->query('SELECT pg_advisory_lock(1)');
	return;
}
sub open_gate
{
	my ($db) = @_;
	$gates{$db}->query('SELECT pg_advisory_unlock(1)');
	return;
}
sub forget_gate
{
	my ($db) = @_;
	(delete $gates{$db})->quit if $gates{$db};
	return;
}

# A table and a definition whose batches go through the gate, if it is open.
our $gated = 'UPDATE batch SET n = n + 1 FROM (SELECT pg_advisory_xact_lock_shared(1)) g';
our $gated_settings = '{"batch_size": 10, "target_batch_time": 0, "sleep": 0, "lock_timeout": "off", "yield_after": "off"}';
sub gated
{
	my ($db, $table, $rows) = @_;
	create_target($node, $table, $rows, db => $db);
	define_increment($node, $table, $gated_settings, statement => $gated, db => $db);
	return;
}
our $in_batch = q{SELECT count(*) FILTER (WHERE state = 'running') = 1 FROM backfill_workers};

# The cluster, with databases that have a table t and a table u.
sub databases
{
	$node = make_node('databases', conf => <<'EOC');
backfill.max_workers = 3
max_worker_processes = 16
max_logical_replication_workers = 0
EOC
	for my $db (@_)
	{
		sql("CREATE DATABASE $db");
		sql('CREATE EXTENSION backfill', $db);
		gated($db, 't', 50);
		gated($db, 'u', 50);
	}
	return;
}

# Do something while a batch is at work, and tell how the run ends.
sub during
{
	my ($table, $what, %opts) = @_;
	my $doer = session($node, db => 'one');

	close_gate('one');
	my $id = start_run($node, $opts{name} || $table, db => 'one');
	comes_true($in_batch, 'one') or die "no batch at work for $table";
	$doer->send($what);
	comes_true('SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = ' . $doer->pid
		  . " AND wait_event_type = 'Lock'") or die "$what does not wait"
	  unless $opts{no_wait};
	$doer->query('SELECT 1') if $opts{no_wait};
	open_gate('one');
	my $answer = $doer->query('SELECT 1');
	unlike($answer, qr/ERROR/, "$what succeeds during the run");
	$doer->quit;
	comes_true("SELECT status IN ('completed', 'failed') FROM backfill_runs WHERE id = $id", 'one');
	return $id;
}

1;
