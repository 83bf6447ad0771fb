# The negative control: against a build that commits the record of a batch
# apart from the data, the check of the other tests has to notice.

use strict;
use warnings;

use BackfillTest;
use File::Basename qw(dirname);
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'BACKFILL_NEGATIVE_BIN does not name the wrong build'
  unless $ENV{BACKFILL_NEGATIVE_BIN};

my $rows = 60_000;
my $tries = 30;

seed_random();

# Runs of batches of one row, without sleep, and the server killed in the
# middle, so many times, or until rows were doubled.  Returns the number of
# kills and what the check says of the last run.
sub torment
{
	my ($node, $most) = @_;
	my @problems;

	create_target($node, 't', $rows);
	define_increment($node, 't', '{"batch_size": 1, "target_batch_time": 0, "sleep": 0, "workers": 2}');
	my $id = start_run($node, 't');
	my $kill = 0;

	while ($kill < $most)
	{
		my $scanned = run_value($node, $id, 'rows_scanned');
		wait_for($node,
			"SELECT rows_scanned > $scanned OR status = 'completed' FROM backfill_runs WHERE id = $id",
			interval => 10_000) or last;
		usleep(rand(30_000));
		kill_server($node);
		$kill++;
		$node->start;
		# what was in hand has to be done again, rightly or wrongly
		wait_for($node, "SELECT EXISTS (SELECT FROM backfill_batches WHERE run_id = $id
			AND finished_at > pg_postmaster_start_time()) OR EXISTS
			(SELECT FROM backfill_runs WHERE id = $id AND status = 'completed')") or last;
		last if query_ok($node, 'SELECT max(n) FROM t') > 1;
		last if run_value($node, $id, 'status') ne 'running';

		# after a crash batches are done with caution for a while: their commits are flushed, and
		# a kill hardly ever comes between the two of the wrong build
		$node->restart;
	}
	query_ok($node, qq(SELECT backfill_alter($id, '{"batch_size": 1000}')))
	  if run_value($node, $id, 'status') eq 'running';
	ok(wait_for_status($node, $id, 'completed'), "the run completes after $kill kills");
	@problems = exactly_once_problems($node, $id, 't', $rows);
	$node->stop;
	return ($kill, @problems);
}

my ($kills, @problems) = torment(
	make_node('wrong', install_path => dirname($ENV{BACKFILL_NEGATIVE_BIN})), $tries);

isnt(join("\n", @problems), '', "the check notices the wrong build after $kills kills");
like(join("\n", @problems), qr/^rows processed more than once/m, 'rows were processed twice');
diag("noticed after $kills kills");
note(join("\n", @problems));

# the same, as often, against the right build
my $least = $kills < 5 ? 5 : $kills;
($kills, @problems) = torment(make_node('right'), $least);
is(join("\n", @problems), '', 'the check finds nothing wrong with the right build');
cmp_ok($kills, '>', 0, "after $kills kills");

done_testing();
