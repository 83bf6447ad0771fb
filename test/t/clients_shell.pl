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

check_killed($node, $command);
check_killed($node, $command, apart => 1);
check_frozen($node, $command);
check_frozen($node, $command, apart => 1);
check_heartbeat($node, $command);
check_term($node, $command);
check_bad_rows($node, $command);
check_retry($node, $command);
check_no_run($node, $command);

$node->stop;
done_testing();
