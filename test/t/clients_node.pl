# The client in JavaScript: backfill_client.js.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use Test::More;

need('/usr/bin/node with pg', '/usr/bin/node', '-e', 'require("pg")');

$ENV{PATH} = "/usr/bin:$ENV{PATH}";
my $node = make_client_node();
my $program = write_program($node, 'worker.js', <<"JS");
const { BackfillClient } = require('$tree/clients/node/backfill_client');
const [name, workers, lease, apart, sql] = process.argv.slice(2);
new BackfillClient({}, { name, workers: Number(workers), lease: Number(lease), apart: apart === '1' })
  .run(async (db, batch) => (await db.query(sql.replace('{condition}', () => batch.condition))).rowCount)
  .then((status) => { process.exitCode = [null, 'completed'].includes(status) ? 0 : 1; })
  .catch((error) => { console.error(error); process.exitCode = 2; });
JS

my $command = sub {
	my (%opts) = @_;
	return ('/usr/bin/node', $program, $opts{name}, $opts{workers}, $opts{lease}, $opts{apart} || 0, $opts{sql});
};

check_all($node, $command, signals => ['INT']);

run_page($node, 'doc/clients/node.md', ['clients/node/backfill_client.js'], js => ['title.js']);
is(query_ok($node, q{SELECT count(*), min(title) FROM page WHERE title IS NOT NULL}), '998|Page 1', 'the titles are there');
is(query_ok($node, q{SELECT e.key, message FROM backfill_errors e JOIN backfill_runs r ON r.id = run_id WHERE name = 'title' ORDER BY 1}),
	"{400}|page 400 has no title\n{800}|page 800 has no title", 'and the two that have none');

$node->stop;
done_testing();
