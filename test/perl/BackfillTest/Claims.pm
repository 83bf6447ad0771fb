# What the tests of work outside of the server have in common: clients that are
# psql sessions, the answers of backfill_claim, and the check that what is done
# by claims is done once.

package BackfillTest::Claims;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use BackfillTest::OneNode;
use JSON::PP ();
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  client ask claim claim_batch claim_number batch_of complete change complete_all change_all
  define_claims start_claims new_run batch_status finish_run out_of quiet_log
);

# A psql that stays, whose errors are SQLSTATEs.  Options: role.
sub client
{
	my (%opts) = @_;
	my @role = $opts{role} ? ('-U', $opts{role}) : ();

	return session($node, %opts, flags => [ '-v', 'VERBOSITY=sqlstate', @role ]);
}

# What the session answers, without the places that psql names.
sub ask
{
	my ($session, $sql) = @_;
	my $out;

	# the bytes that came from the server, as they came
	utf8::downgrade($sql);
	$out = $session->query($sql);
	$out =~ s/^psql:<stdin>:\d+: //mg;
	chomp $out;
	return $out;
}

# A definition without a statement, for the table of that name.
sub define_claims
{
	my ($name, $settings, %opts) = @_;
	my $scope = defined $opts{scope} ? "scope => \$s\$$opts{scope}\$s\$," : '';
	my $more = join('', map { "$_ => $opts{more}{$_}," } sort keys %{ $opts{more} || {} });

	return sql("SELECT backfill_define('$name', '@{[$opts{target} || $name]}', NULL, $scope $more
		settings => '$settings')");
}

# A run that clients can take part in.
sub start_claims
{
	my ($name, $more) = @_;
	my $id = sql("SELECT backfill_start('$name'" . ($more ? ", $more" : '') . ')');

	wait_for($node, "SELECT status = 'running' AND conditions IS NOT NULL OR status = 'completed'
		FROM backfill.run WHERE id = $id") or die "run $id does not begin";
	return $id;
}

# The rows that backfill_claim returns, as hashes.  Options: worker, lease (an
# SQL literal), batches, function.
sub claim
{
	my ($session, $id, %opts) = @_;
	my $function = $opts{function} || 'backfill_claim';
	my $lease = $opts{lease} || "'1 min'";
	my $out = ask($session, "SELECT json_agg(c)::text FROM $function($id, '"
		  . ($opts{worker} || 'client') . "', $lease, " . ($opts{batches} || 1) . ') c');

	die "claim: $out" unless $out =~ /^\[/;
	$out =~ s/\n//g;
	return map { $_->{run} = $id; $_ } @{ JSON::PP->new->decode($out) };
}

# The same, but with patience: asks again, as it is told to, as long as there is no batch.
sub claim_batch
{
	my ($session, $id, %opts) = @_;
	my $until = time + ($opts{timeout} || 60);

	for (;;)
	{
		my @rows = claim($session, $id, %opts);
		return @rows if defined $rows[0]{number} || $rows[0]{done};
		die "no batch of run $id: $rows[0]{reason}" if time > $until;
		usleep(20_000);
	}
}

# Claim until the batch with that number comes; what comes before it is completed.
sub claim_number
{
	my ($session, $id, $number, %opts) = @_;

	for (;;)
	{
		my ($batch) = claim_batch($session, $id, %opts);
		die "batch $number does not come" if $batch->{done};
		return $batch if $batch->{number} == $number;
		ask($session, complete($batch));
	}
}

# The arguments that say which batch it is.
sub batch_of
{
	my ($batch) = @_;

	return "$batch->{run}, $batch->{number}, $batch->{part}, '$batch->{token}'";
}

# The SQL that completes the batch, and the one that adds one to n in its rows.
sub complete
{
	my ($batch) = @_;

	return 'SELECT backfill_complete(' . batch_of($batch) . ')';
}

sub change
{
	my ($batch, $table) = @_;

	return "UPDATE $table AS batch SET n = n + 1 WHERE $batch->{condition}";
}

# Claim and complete everything that there is, with the work for each batch;
# returns what was claimed, and the last answer.
sub complete_all
{
	my ($session, $id, $work, %opts) = @_;
	my @claimed;

	for (;;)
	{
		my @rows = claim_batch($session, $id, %opts);
		return { claimed => \@claimed, last => $rows[0] } if $rows[0]{done};
		foreach my $batch (@rows)
		{
			my $said = ask($session, 'BEGIN;' . $work->($batch) . ';' . complete($batch) . ';COMMIT');
			die "batch $batch->{number}: $said" if $said =~ /ERROR/;
			push @claimed, $batch;
		}
	}
}

sub change_all
{
	my ($session, $id, $table, %opts) = @_;

	return complete_all($session, $id, sub { return change($_[0], $table) }, %opts);
}

# Who has how many batches of the run out, as backfill_workers has it.
sub out_of
{
	my ($id) = @_;

	return sql("SELECT string_agg(client || ':' || batches_out, ',' ORDER BY client)
		FROM backfill_workers WHERE run_id = $id AND client IS NOT NULL");
}

# A run that clients work on, over a new table of that name with 300 rows.
sub new_run
{
	my ($table, $settings) = @_;

	create_target($node, $table, 300);
	define_claims($table, $settings || '{"batch_size": 10}');
	return start_claims($table);
}

sub batch_status
{
	my ($batch) = @_;

	return sql("SELECT status FROM backfill_batches WHERE run_id = $batch->{run} AND number = $batch->{number} AND part = $batch->{part}");
}

# Everything that is left is claimed and done once; batches that were done
# already are in the count.
sub finish_run
{
	my ($id, $table, $name) = @_;
	my $client = client();
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	change_all($client, $id, $table, batches => 4);
	$client->quit;
	return check_exactly_once($node, $id, $table, 300, $name);
}

# No process of ours has warned of anything.
sub quiet_log
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);

	return is(join("\n", $log =~ /^.* backfill \w+ .*WARNING: .*$/mg), '', 'no warnings in the log');
}

1;
