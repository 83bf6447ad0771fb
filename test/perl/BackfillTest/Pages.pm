# What the tests of sources have in common: the service that gives pages, test/clients/page_server.py,
# the table "items" that they fill, and the check that it has what the service has.

package BackfillTest::Pages;

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use Exporter 'import';
use HTTP::Tiny;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(start_service ask_service create_items check_items check_calls names_of_streams);

our $apply = 'INSERT INTO items SELECT id, name, changed, 1 FROM batch
	ON CONFLICT (id) DO UPDATE SET name = excluded.name, changed = excluded.changed, applied = items.applied + 1';

# Start it with those options; returns its port.
my $port;
sub start_service
{
	my ($node, %opts) = @_;
	my $port_file = $node->basedir . '/port';
	my $until = time + $BackfillTest::timeout;

	$ENV{PYTHONDONTWRITEBYTECODE} = 1;
	start_client($node, '/usr/bin/python3', "$tree/test/clients/page_server.py", '--port-file', $port_file,
		'--seed', int(rand(1_000_000)), map { ("--$_", $opts{$_}) } sort keys %opts);
	usleep(10_000) until -e $port_file || time > $until;
	return $port = slurp_file($port_file);
}

# A GET, whose answer is JSON, or another method.
sub ask_service
{
	my ($what, $method) = @_;
	my $answer = HTTP::Tiny->new->request($method || 'GET', "http://127.0.0.1:$port/$what");

	die "the service says: $answer->{content}" unless $answer->{success};
	return $method ? 1 : JSON::PP->new->allow_nonref->decode($answer->{content});
}

sub create_items
{
	my ($node) = @_;
	query_ok($node, 'CREATE TABLE items (id text PRIMARY KEY, name text, changed double precision, applied int NOT NULL)');
	return;
}

# The value of "streams" for so many.
sub names_of_streams
{
	my ($n) = @_;
	return JSON::PP->new->encode([ map { "s$_" } 1 .. $n ]);
}

# The table is what the service has.
sub check_items
{
	my ($node, $what) = @_;
	my $sum = ask_service('sum');

	is(query_ok($node, q{SELECT count(*) || ':' || md5(string_agg(id || '=' || name, ',' ORDER BY id COLLATE "C")) FROM items}),
		"$sum->{records}:$sum->{md5}", $what);
	return;
}

# The service was called as it should be, and has seen trouble.
sub check_calls
{
	my ($window) = @_;
	my $report = ask_service('report?2');

	note join(', ', map { "$_ " . ($report->{$_} // '') } sort keys %$report);
	cmp_ok($report->{failed}, '>', 0, 'calls have failed');
	cmp_ok($report->{put_off}, '>', 0, 'some were put off');
	is($report->{early}, 0, 'and nobody came back before the time');
	return unless $window;
	is($report->{refused}, 0, 'the service had to refuse nobody');
	cmp_ok($report->{shortest}, '>=', $window, 'no window had more calls than are allowed');
	return;
}

1;
