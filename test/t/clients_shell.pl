# The client in the shell: backfill_worker.sh, which needs psql alone.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use Test::More;

my $node = make_client_node();
my $command = sub {
	my (%opts) = @_;
	return ('bash', "$tree/clients/shell/backfill_worker.sh", '--name', $opts{name}, '--workers', $opts{workers},
		'--lease', $opts{lease}, ($opts{apart} ? '--apart' : ()), '--sql', $opts{sql});
};

check_all($node, $command);

$node->stop;
done_testing();
