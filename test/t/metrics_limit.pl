# There is place for so many definitions as backfill.max_metrics says: what becomes of
# others, and when one of them gets a place.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Metrics;
use BackfillTest::OneNode;
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;

use constant DAY => 86400;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $clock = "$dir/clock";

sub set_clock
{
	my ($seconds) = @_;
	append_to_file("$clock.new", $seconds);
	rename("$clock.new", $clock) or die "$clock: $!";
	return;
}

# A run of the definition of that name, with ten rows, which completes.
sub complete_run
{
	my ($name) = @_;
	my $run = start_run($node, $name);

	return ok(wait_for_status($node, $run, 'completed'), "a run of $name completes");
}

# The definitions that have counters, and the batches that were not counted.
sub counted { return sql(q{SELECT string_agg(labels ->> 'definition', ' ') FROM backfill_metrics WHERE name = 'backfill_rows_total'}); }
sub uncounted { return sql(q{SELECT value FROM backfill_metrics WHERE name = 'backfill_uncounted_batches_total'}); }
sub hidden { return sql(q{SELECT value FROM backfill_metrics WHERE name = 'backfill_hidden_definitions'}); }

plan skip_all => 'no C compiler to make a clock with'
  if system('cc', '-shared', '-fPIC', '-o', "$dir/clock.so", dirname(__FILE__) . '/../perl/BackfillTest/clock.c') != 0;

one_node('main', conf => "backfill.max_metrics = 2\nbackfill.event_retention = -1\n");
set_clock(0);
{
	local $ENV{LD_PRELOAD} = "$dir/clock.so";
	local $ENV{BACKFILL_CLOCK} = $clock;
	$node->restart;
}
foreach my $name (qw(a b c))
{
	create_target($node, $name, 10);
	define_increment($node, $name, '{"batch_size": 10, "target_batch_time": "off", "sleep": 0}');
}

complete_run($_) foreach qw(a b);
is(counted() . ' ' . uncounted(), 'a b 0', 'two definitions are counted');
my $log = -s $node->logfile;
complete_run('c') foreach 1, 2;
is(counted() . ' ' . uncounted(), 'a b 2', 'the batches of a third one are counted for nobody');
my @said = slurp_file($node->logfile, $log) =~ /LOG:  (backfill has no place .*)$/mg;
is(join("\n", @said), 'backfill has no place to count batches of definition "c" for monitoring', 'which the log says, once');
is(hidden(), 0, 'nothing is hidden, since it has no active run');

# Gauges: those of the newest runs.
my @later = map { sql("SELECT backfill_start('$_', start_at => now() + interval '1 year')") } qw(c b a);
is(sql(q{SELECT string_agg(labels ->> 'definition', ' ') FROM backfill_metrics WHERE name = 'backfill_workers'}), 'a b',
	'the gauges show as many definitions, by their newest runs');
is(hidden(), 1, 'and how many there are besides');
sql("SELECT backfill_stop($_)") foreach @later;

# An hour is not enough, a day is.
set_clock(3600);
complete_run('c');
is(counted() . ' ' . uncounted(), 'a b 3', 'after an hour both have their places');
complete_run('b');
set_clock(DAY + 600);
complete_run('c');
is(counted() . ' ' . uncounted(), 'b c 3', 'after a day the one that was not used for longest has lost its place');
is(metric('rows_total', 'c') . ' ' . metric('rows_total', 'b'), '10 20', 'the new one counts from zero, the other one goes on');
complete_run('a');
is(counted() . ' ' . uncounted(), 'b c 4', 'the others are too young for that');

# Other databases share the places.
sql('CREATE DATABASE other');
$node->safe_psql('other', q{CREATE EXTENSION backfill; CREATE TABLE d (id int PRIMARY KEY, n int); INSERT INTO d VALUES (1); ANALYZE d});
$node->safe_psql('other', q{SELECT backfill_define('d', 'd', 'UPDATE batch SET n = 1')});
my $run = start_run($node, 'd', db => 'other');
ok(wait_for_status($node, $run, 'completed', db => 'other'), 'a run in another database');
is(uncounted(), 5, 'has no place either');

$node->stop;
done_testing();
