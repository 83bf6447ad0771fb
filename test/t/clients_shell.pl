# The client in the shell: backfill_worker.sh, which needs psql alone.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_client_node();
my $command = sub {
	my (%opts) = @_;
	return ('bash', "$tree/clients/shell/backfill_worker.sh", '--name', $opts{name}, '--workers', $opts{workers},
		'--lease', $opts{lease}, ($opts{apart} ? '--apart' : ()), '--sql', $opts{sql});
};

check_all($node, $command);

# --- commands -------------------------------------------------------------------

my @shell = ('bash', "$tree/clients/shell/backfill_worker.sh");
my $id = start_hits($node, 'command', 100, '{"batch_size": 20, "on_error": "skip", "retry_delay": "50ms"}');
my $script = write_program($node, 'command.sh', <<'SHELL');
add() { psql -Xq -v ON_ERROR_STOP=1 -c "UPDATE command AS batch SET hits = hits + 1 WHERE $BACKFILL_CONDITION" || exit; }
after=${BACKFILL_START_KEY//[\{\}]/} to=${BACKFILL_END_KEY//[\{\}]/}
if [ "$after" = 20 ] && [ ! -e tried ]; then
	touch tried
	exit 75
elif [ "$after" -lt 44 ] && [ "$to" -ge 44 ]; then
	echo 44 >"$BACKFILL_BAD_KEY"
	exit 1
fi
add
SHELL
my $client = start_client($node, @shell, '--run', $id, '--command', "bash $script");
is(exit_code($client, 60), 0, 'a command for each batch') or diag(out_of($client));
is(hits($node, 'command'), '0:1 1:99', 'does its rows, at the second try, too, and those beside a bad one');
is(query_ok($node, "SELECT key, message FROM backfill_errors WHERE run_id = $id"), '{44}|the command has ended with 1', 'which has its error');

# --- the page -------------------------------------------------------------------

run_page($node, 'doc/clients/shell.md', ['clients/shell/backfill_worker.sh']);
is(query_ok($node, 'SELECT count(*) FROM reading WHERE kelvin = celsius + 273.15'), '1000', 'the statement has been run');
is(join('', map { slurp_file($_) } glob($node->basedir . '/part-*-0.csv')) =~ tr/\n//, 1000, 'the table has been exported');

$node->stop;
done_testing();
