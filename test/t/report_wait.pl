# CALL backfill_wait(..., style => 'bar'): lines with a bar, in 80 columns.

use strict;
use warnings;

use BackfillTest;
use Encode qw(decode_utf8);
use Test::More;

my $node = make_node('bar');
sub sql { return query_ok($node, $_[0]); }

create_target($node, 't', 400);
define_increment($node, 't', '{"batch_size": 10, "target_batch_time": 0, "sleep": "20 ms"}', numbered => 1);

# What the waiting says, line by line, without the end.
sub lines
{
	my ($run, $arguments, @opts) = @_;
	my ($rc, $out, $err) = query($node, "CALL backfill_wait($run, every => '20 ms'$arguments)", @opts);
	return ($rc, split(/\n/, decode_utf8($err)));
}

my $id = sql("SELECT backfill_start('t', @{[another()]})");
my ($rc, @lines) = lines($id, ", style => 'bar'");
is($rc, 0, 'it ends well');
is(shift @lines, "INFO:  run $id of t on t", 'the first line names the run');
like(pop @lines, qr/^INFO:  run $id of t on t completed in \S+: 400 rows walked, 400 changed/, 'the last one says how it ended, as ever');
cmp_ok(scalar @lines, '>=', 4, 'there are lines in between');
my @shapes = grep { !/^INFO:  \[(#*)(-*)\] +\d{1,3}\.\d\d %(, \w+)?(, \d+ rows\/s)?(, ETA \S+)?(, .*)?$/ || length("$1$2") != 24 } @lines;
is("@shapes", '', 'each with a bar of the same length');
my @wrong;
my ($last, $longest) = (-1, 0);
foreach my $line (@lines)
{
	my ($bar, $progress) = $line =~ /\[(#*)-*\] +([\d.]+) %/ or next;
	push @wrong, $line if $progress < $last;
	push @wrong, $line if abs(length($bar) - $progress * 24 / 100) > 1 || ($progress < 100 && length($bar) == 24) || ($progress > 0 && $bar eq '');
	($last, $longest) = ($progress, length($line) > $longest ? length($line) : $longest);
}
is("@wrong", '', 'that grows with the progress');
cmp_ok($longest, '<=', 80, 'and fits 80 columns');

# a long reason, with letters of several bytes
sql(q{CREATE DATABASE letters ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0});
my @letters = (db => 'letters');
query_ok($node, 'CREATE EXTENSION backfill', @letters);
create_target($node, 't', 20, @letters);
define_increment($node, 'held', '{"probe": "SELECT repeat(chr(228), 100)"}', target => 't', @letters);
my $held = start_run($node, 'held', @letters);
ok(wait_for($node, "SELECT throttled_by LIKE 'probe: ' || chr(228) || '%' FROM backfill_runs WHERE id = $held", @letters), 'a run that is held for a long reason');
($rc, @lines) = lines($held, ", style => 'BAR', timeout => '100 ms'", @letters);
isnt($rc, 0, 'the timeout holds');
my ($cut) = grep { /\.\.\.$/ } @lines;
ok($cut, 'its line is cut off') or diag(join("\n", @lines));
is(length($cut), 80, 'at 80 characters');
like($cut, qr/^INFO:  \[-{24}\]   0\.00 %(, \w+)?, throttled by probe: \x{e4}+\.\.\.$/, 'between two letters');
like(join("\n", @lines), qr/ERROR:  timed out waiting for run $held of held on t/, 'errors are the same');
my ($rc2, @plain) = lines($held, ", timeout => '50 ms'", @letters);
like($plain[0], qr/^INFO:  run $held of held on t.*\x{e4}{100}/, 'by default lines are whole, and name the run');
query_ok($node, "SELECT backfill_pause($held)", @letters);
ok(wait_for_status($node, $held, 'paused', @letters), 'it is paused');
($rc, @lines) = lines($held, ", style => 'bar', timeout => '50 ms'", @letters);
like($lines[1], qr/^INFO:  \[-+\]   0\.00 %, paused/, 'which its line says');

# arguments
foreach my $case ([ "CALL backfill_wait($id, style => 'circle')", '22023' ], [ "CALL backfill_wait('t', style => NULL)", '22023' ],
	[ "CALL backfill_wait(style => 'circle')", '22023' ], [ "CALL backfill_wait($id, NULL, '1 s', 'line')", '00000' ])
{
	is(sqlstate($node, $case->[0]), $case->[1], "$case->[0]: $case->[1]");
}
(undef, undef, my $said) = query($node, "CALL backfill_wait(style => 'bar', every => '10 ms')", flags => [ '-c', "SELECT backfill_start('t', @{[another()]})" ]);
like($said, qr/^INFO:  run \d+ of t on t\nINFO:  \[/, 'the run that was started last, too');

$node->stop;
done_testing();
