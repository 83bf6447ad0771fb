# A partitioned table whose partitions are on two other servers, by postgres_fdw,
# worked on by clients: every row once; nothing is committed there when a batch is
# refused here; and what a crash between the two commits comes to.

use strict;
use warnings;

use BackfillTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(usleep);

use constant ROWS => 400;			# of each of the two servers

my $node = make_node('main', conf => "max_connections = 60\n");
my @far = map { PostgreSQL::Test::Cluster->new($_) } 'far1', 'far2';

sub sql { return query_ok($node, $_[0]); }

foreach my $i (0, 1)
{
	$far[$i]->init(extra => [ '-U', 'postgres' ]);
	$far[$i]->start;
	query_ok($far[$i], "CREATE TABLE reading (id bigint PRIMARY KEY, raw text NOT NULL, value numeric, times int NOT NULL DEFAULT 0);
		INSERT INTO reading SELECT i, i * 2 FROM generate_series(@{[$i * ROWS + 1]}, @{[($i + 1) * ROWS]}) i; ANALYZE reading");
	sql('CREATE EXTENSION IF NOT EXISTS postgres_fdw');
	sql("CREATE SERVER far$i FOREIGN DATA WRAPPER postgres_fdw
		OPTIONS (host '" . $far[$i]->host . "', port '" . $far[$i]->port . "', dbname 'postgres')");
	sql("CREATE USER MAPPING FOR postgres SERVER far$i OPTIONS (user 'postgres')");
}
sql('CREATE TABLE reading (id bigint NOT NULL, raw text NOT NULL, value numeric, times int NOT NULL DEFAULT 0) PARTITION BY RANGE (id)');
foreach my $i (0, 1)
{
	sql("CREATE FOREIGN TABLE reading_$i PARTITION OF reading
		FOR VALUES FROM (@{[$i * ROWS + 1]}) TO (@{[($i + 1) * ROWS + 1]}) SERVER far$i OPTIONS (table_name 'reading')");
}

sub far_value
{
	my ($i, $sql) = @_;
	return query_ok($far[$i], $sql);
}

# --- what is to be walked ---

is(sqlstate($node, 'CREATE UNIQUE INDEX ON reading (id)'), '42809', 'the server makes no unique index over foreign partitions');
is(sqlstate($node, "SELECT backfill_define('fill', 'reading', NULL)"), '55000', 'so there is no primary key to walk along');
sql('CREATE INDEX reading_id ON reading (id)');
is(sqlstate($node, "SELECT backfill_define('fill', 'reading', 'UPDATE batch SET value = raw::numeric', key => 'reading_id')"), '42809',
	'workers change nothing that is elsewhere');
sql(q{SELECT backfill_define('fill', 'reading', NULL, scope => 'value IS NULL', key => 'reading_id',
	settings => '{"batch_size": 30, "verify": true}')});

# --- clients ---

# Claim one batch; its columns by name, or undef when the run is over.
sub claim
{
	my ($session, $id, $lease) = @_;
	my $until = time + 60;

	for (;;)
	{
		my @c = split(/\|/, $session->query("SELECT coalesce(number, 0), coalesce(part, 0), coalesce(token, ''), done, coalesce(condition, '')
			FROM backfill_claim($id, 'client', '" . ($lease || '1 min') . "')"), 5);
		die "nothing to claim" if time > $until;
		return if $c[3] eq 't';
		return { number => $c[0], part => $c[1], token => $c[2], condition => $c[4] } if $c[0];
		usleep(20_000);
	}
}

sub change
{
	my ($session, $c) = @_;
	$session->query("UPDATE reading AS batch SET value = raw::numeric, times = times + 1 WHERE $c->{condition}");
	return;
}

sub complete
{
	my ($id, $c) = @_;
	return "SELECT backfill_complete($id, $c->{number}, $c->{part}, '$c->{token}')";
}

my $id = start_run($node, 'fill');
my @clients = map { session($node) } 1 .. 3;

# a batch that spans both servers, or any other: what is rolled back is rolled back there
my $c = claim($clients[0], $id);
$clients[0]->query('BEGIN');
change($clients[0], $c);
$clients[0]->query(complete($id, $c));
$clients[0]->query('ROLLBACK');
is(far_value(0, 'SELECT sum(times) FROM reading'), '0', 'what is rolled back here is rolled back there');
$clients[0]->query('BEGIN');
change($clients[0], $c);
$clients[0]->query(complete($id, $c));
$clients[0]->query('COMMIT');
is(far_value(0, 'SELECT sum(times) FROM reading'), '30', 'and committed with the commit');

# a batch that is refused: nothing is committed anywhere, though the error was caught, and though
# the connections to the other servers were made after the first claim
my $late = session($node);
my $lost = claim($late, $id, '200 ms');
ok(wait_for($node, "SELECT status = 'pending' OR lease_until < clock_timestamp() FROM backfill_batches WHERE run_id = $id AND number = $lost->{number}"), 'a lease runs out');
my $before = far_value(0, 'SELECT sum(times) FROM reading') + far_value(1, 'SELECT sum(times) FROM reading');
my $refused = sqlstate($node, join(";\n",
	"SELECT number FROM backfill_claim($id, 'client', '1 min', 1)",		# listens to the ends of transactions first
	'BEGIN',
	"UPDATE reading AS batch SET times = times + 100 WHERE $lost->{condition}",
	"DO \$\$ BEGIN PERFORM 1 FROM (@{[complete($id, $lost)]}) s; EXCEPTION WHEN SQLSTATE 'UB006' THEN NULL; END \$\$",
	'COMMIT'));
is($refused, 'UB006', 'a transaction in which a batch was refused does not commit');
is(far_value(0, 'SELECT sum(times) FROM reading') + far_value(1, 'SELECT sum(times) FROM reading'), $before, 'neither here nor there');
$late->quit;

# all the rest, with the clients in turn
sql("SELECT backfill_alter($id, '{\"batch_size\": 50}')");
my $done = 0;
CLIENTS: for (;;)
{
	foreach my $client (@clients)
	{
		my $c = claim($client, $id, '5 s') or last CLIENTS;
		$client->query('BEGIN');
		change($client, $c);
		$client->query(complete($id, $c));
		$client->query('COMMIT');
		$done++;
	}
}
ok(wait_for_status($node, $id, 'completed'), 'the run is completed, and verified');
is(far_value($_, 'SELECT count(*), count(*) FILTER (WHERE times = 1 AND value = id * 2) FROM reading'), join('|', ROWS, ROWS),
	"every row of server $_ once") foreach 0, 1;
is(run_value($node, $id, 'rows_affected'), 2 * ROWS, 'and the record says so');
cmp_ok($done, '>=', 2 * ROWS / 50 - 2, 'batches went over both');

# --- a crash between the two commits ---

# The other server has committed, and then the record is lost here: with the scope the change is
# not made again.
query_ok($far[$_], 'UPDATE reading SET value = NULL WHERE id % 100 = 0') foreach 0, 1;
$id = start_run($node, 'fill');
$c = claim($clients[0], $id, '300 ms');
query_ok($far[0], "UPDATE reading AS batch SET value = raw::numeric, times = times + 1 WHERE $c->{condition}");
while ($c = claim($clients[1], $id))
{
	$clients[1]->query('BEGIN');
	change($clients[1], $c);
	$clients[1]->query(complete($id, $c));
	$clients[1]->query('COMMIT');
}
ok(wait_for_status($node, $id, 'completed'), 'a batch whose record was lost is handed out again');
is(far_value($_, 'SELECT max(times) FROM reading'), '2', "its rows, out of scope by then, are not changed again on server $_") foreach 0, 1;

$_->quit foreach @clients;
$_->stop foreach @far;
$node->stop;
done_testing();
