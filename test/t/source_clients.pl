# Pages that clients bring, through crashes: the postmaster is killed while a page is
# claimed, while it is being brought, and while it is applied. A lease outlives that, each page is
# applied once, and who is too late is refused.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use BackfillTest::Claims;
use Test::More;

one_node('main');
create_step($node);
sql('CREATE TABLE items (id bigint PRIMARY KEY, stream text NOT NULL, applied int NOT NULL)');
sql(q{SELECT backfill_define('items', 'items', 'INSERT INTO items SELECT id, run.stream, step(id) FROM batch
	ON CONFLICT (id) DO UPDATE SET applied = items.applied + 1', source => 'client', streams => '["a", "b"]', settings => '{"workers": 2, "prefetch": 1}')});
my $run = start_run($node, 'items');
my $client = client();

# Claim until there is a page.
sub page
{
	my (%opts) = @_;
	my $page;
	ok(wait_for($node, "SELECT EXISTS (SELECT FROM backfill.batch b JOIN backfill.stream s ON s.id = b.run_id WHERE s.run_id = $run AND b.status = 'pending' AND b.fetched_at IS NULL)
			OR EXISTS (SELECT FROM backfill_batches WHERE run_id = $run AND status = 'running' AND fetched_at IS NULL AND lease_until < clock_timestamp())"), 'there is a page to be claimed');
	($page) = claim($client, $run, %opts);
	return $page;
}

# Bring three records, whose ids begin with the number; what the session answers.
sub put
{
	my ($session, $page, $first, $next) = @_;
	return ask($session, "SELECT backfill_put($run, '$page->{stream}', '$page->{token}', (SELECT jsonb_agg(jsonb_build_object('id', i)) FROM generate_series($first, $first + 2) i), "
		  . ($next ? "'$next'" : 'NULL') . ')');
}

sub applied { return sql('SELECT string_agg(id || CASE applied WHEN 1 THEN \'\' ELSE \' x \' || applied END, \' \' ORDER BY id) FROM items'); }
sub applies { return wait_for($node, q{SELECT string_agg(id || CASE applied WHEN 1 THEN '' ELSE ' x ' || applied END, ' ' ORDER BY id) FROM items}, expected => $_[0]); }

# The blow, and a client for the time afterwards.
sub again
{
	my ($blow, $name) = @_;
	ok($blow->($node), $name);
	$node->start;
	$client = client();
	return;
}

# ---------------------------------------------------------------------------
note 'claimed';

my %page = map { $_->{stream} => $_ } page(lease => "'1 hour'"), page(lease => "'1 hour'");
is(join(' ', map { "$_ $page{$_}{number} " . ($page{$_}{source_token} // 'first') } sort keys %page), 'a 1 first b 1 first', 'a client has the first page of each stream');
again(\&kill_postmaster, 'the postmaster is killed');
my ($none) = claim($client, $run);
is($none->{number}, undef, 'then nobody else is given them');
is(sql("SELECT string_agg(concat_ws(' ', stream, number, status, client, lease_until > clock_timestamp() + interval '50 min', fetched_at), ', ' ORDER BY stream) FROM backfill_batches WHERE run_id = $run"),
	'a 1 running client t, b 1 running client t', 'they are still the client\'s, as long as they were');
is(sql("SELECT concat_ws(' ', state, client, role, stream, batch, batches_out, lease_until > clock_timestamp() + interval '50 min') FROM backfill_workers WHERE run_id = $run AND client IS NOT NULL"),
	'claimed client postgres 1 2 t', 'and it is known who has them');
is(ask($client, "SELECT backfill_extend($run, 1, 0, '$page{a}{token}', '2 hours') > clock_timestamp() + interval '110 min'"), 't', 'who can extend that');
is(put($client, $page{a}, 10, '{"after": 1}'), '', 'and bring one');
ok(applies('10 11 12'), 'which is applied');
is(put($client, $page{a}, 20, '{"after": 1}'), 'ERROR:  UB006', 'once');

# ---------------------------------------------------------------------------
note 'being brought';

$client->query('BEGIN');
is(put($client, $page{b}, 110, '{"after": 1}'), '', 'the other one is being brought');
again(\&kill_server, 'everything is killed');
is(sql("SELECT concat_ws(' ', status, fetched_at, (SELECT count(*) FROM backfill.page p JOIN backfill.stream s ON s.id = p.run_id WHERE s.name = 'b')) FROM backfill_batches WHERE run_id = $run AND stream = 'b'"), 'running 0', 'nothing of it has come');
is(put($client, $page{b}, 110, '{"after": 1}'), '', 'it can be brought once more');
ok(applies('10 11 12 110 111 112'), 'and is applied');

# ---------------------------------------------------------------------------
note 'applied';

sql("INSERT INTO behave VALUES (21, 'gate'), (121, 'gate')");
%page = map { $_->{stream} => $_ } page(), page();
is(join(' ', map { "$_ $page{$_}{number} $page{$_}{source_token}{after}" } sort keys %page), 'a 2 1 b 2 1', 'the pages behind them');
put($client, $page{a}, 20, '{"after": 2}');
put($client, $page{b}, 120, '{"after": 2}');
my $at_gates = "SELECT count(*) FROM backfill_workers w JOIN pg_stat_activity a USING (pid) WHERE run_id = $run AND wait_event = 'PgSleep'";
ok(wait_for($node, $at_gates, expected => 2), 'are in hand');
again(\&kill_postmaster, 'the postmaster is killed');
ok(wait_for($node, $at_gates, expected => 2), 'and they are taken up again');
is(applied(), '10 11 12 110 111 112', 'nothing of them was done');
is(put($client, $page{a}, 30, '{"after": 3}'), 'ERROR:  UB006', 'and nobody can bring them again');
sql('DELETE FROM behave');
ok(applies('10 11 12 20 21 22 110 111 112 120 121 122'), 'until they are');

# ---------------------------------------------------------------------------
note 'too late';

%page = map { $_->{stream} => $_ } page(lease => "'1 hour'"), page(lease => "'1 hour'");
sql("UPDATE backfill.batch SET lease_until = clock_timestamp() WHERE status = 'running' AND run_id = (SELECT id FROM backfill.stream WHERE run_id = $run AND name = 'a')");
again(\&kill_postmaster, 'the postmaster is killed, and a lease runs out meanwhile');
is(put($client, $page{a}, 30, undef), 'ERROR:  UB006', 'then the page cannot be brought');
my $late = page();
is("$late->{stream} $late->{number} $late->{source_token}{after}", 'a 3 2', 'and another one is given it');
is(put($client, $page{a}, 30, undef), 'ERROR:  UB006', 'not he who had it');
is(put($client, $_, $_->{stream} eq 'a' ? 30 : 130, undef), '', "$_->{stream} is brought to its end") foreach $late, $page{b};
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(applied(), '10 11 12 20 21 22 30 31 32 110 111 112 120 121 122 130 131 132', 'each page was applied once');
is(sql('SELECT count(*) FROM items WHERE (id > 100) <> (stream = \'b\')'), 0, 'in its stream');
is(sql("SELECT string_agg(concat_ws(' ', name, status, batches, rows_affected), ', ' ORDER BY name) FROM backfill_streams WHERE run_id = $run"), 'a completed 3 9, b completed 3 9', 'as the streams say');
is(sql("SELECT string_agg(concat_ws(' ', stream, number, source_token ->> 'after', next_token ->> 'after'), ', ' ORDER BY stream, number) FROM backfill_batches WHERE run_id = $run"),
	'a 1 1, a 2 1 2, a 3 2, b 1 1, b 2 1 2, b 3 2', 'page by page');
is(sql('SELECT count(*) FROM backfill.page'), 0, 'no page is left behind');
is(put($client, $late, 40, undef), 'ERROR:  UB006', 'and none is taken any more');

$node->stop;
done_testing();
