# The client in Ruby: backfill_client.rb.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use BackfillTest::Clients;
use Test::More;

need('/usr/bin/ruby with pg', '/usr/bin/ruby', '-e', 'require "pg"');

my $node = make_client_node();
my $program = write_program($node, 'worker.rb', <<"RUBY");
require "$tree/clients/ruby/backfill_client"
name, workers, lease, apart, sql = ARGV
begin
  client = BackfillClient.new(name: name, workers: workers.to_i, lease: lease.to_f, apart: apart == "1")
  status = client.run { |conn, batch| conn.exec(sql.gsub("{condition}") { batch.condition }).cmd_tuples }
rescue PG::Error, ArgumentError => e
  warn e.message
  exit 2
end
exit [nil, "completed"].include?(status)
RUBY

my $command = sub {
	my (%opts) = @_;
	return ('/usr/bin/ruby', '-w', $program, $opts{name}, $opts{workers}, $opts{lease}, $opts{apart} || 0, $opts{sql});
};

check_all($node, $command, signals => ['INT']);

# --- the page -------------------------------------------------------------------

$ENV{PATH} = "/usr/bin:$ENV{PATH}";
run_page($node, 'doc/clients/ruby.md', ['clients/ruby/backfill_client.rb'], ruby => ['slug.rb']);
is(query_ok($node, q{SELECT count(*), min(slug) FROM article WHERE slug IS NOT NULL}), '998|news-of-day-1-more', 'the slugs are there');
is(query_ok($node, q{SELECT e.key, message FROM backfill_errors e JOIN backfill_runs r ON r.id = run_id WHERE name = 'slug' ORDER BY 1}),
	"{400}|??? makes no slug\n{800}|??? makes no slug", 'and the two that are none');

SKIP:
{
	skip 'no activerecord on this machine', 3 unless IPC::Run::run([ '/usr/bin/ruby', '-e', 'require "active_record"' ], '>', \my $out, '2>&1');
	my ($text) = page_blocks('doc/clients/ruby.md', 'ruby activerecord');
	my $client = start_client($node, '/usr/bin/ruby', write_program($node, 'initials.rb', $text));

	is(exit_code($client, 60), 0, 'the example with ActiveRecord works') or diag(out_of($client));
	is(query_ok($node, q{SELECT count(*), min(initials), max(initials) FROM customers WHERE initials ~ '^A[A-Z]S$'}), '500|AAS|AZS', 'callbacks of the model have been called');
	is(query_ok($node, q{SELECT status, rows_affected FROM backfill_runs WHERE name = 'initials'}), 'completed|500', 'the run is completed');
}

$node->stop;
done_testing();
