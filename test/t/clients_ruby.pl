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

$node->stop;
done_testing();
