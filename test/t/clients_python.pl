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

check_killed($node, $command);
check_killed($node, $command, apart => 1);
check_frozen($node, $command);
check_frozen($node, $command, apart => 1);
check_heartbeat($node, $command);
check_term($node, $command, signals => ['INT']);
check_bad_rows($node, $command);
check_retry($node, $command);
check_no_run($node, $command);

$node->stop;
done_testing();
