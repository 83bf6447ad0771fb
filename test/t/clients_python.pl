# The client in Python: backfill_client.py, on its command line and as a module.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use Test::More;

need('/usr/bin/python3 with psycopg2', '/usr/bin/python3', '-c', 'import psycopg2');
$ENV{PYTHONPATH} = "$tree/clients/python";
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

my $node = make_client_node();
my @python = ('/usr/bin/python3', "$tree/clients/python/backfill_client.py");

my $command = sub {
	my (%opts) = @_;
	return (@python, '--name', $opts{name}, '--workers', $opts{workers}, '--lease', $opts{lease},
		($opts{apart} ? '--apart' : ()), '--sql', $opts{sql});
};

check_all($node, $command, signals => ['INT']);

$node->stop;
done_testing();
