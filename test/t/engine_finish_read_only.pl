# default_transaction_read_only, default_transaction_isolation and the like, of
# the role, the database or the server: what begins its own transactions in
# "finish" takes the defaults of the session, and those are ours.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Finish;
use BackfillTest::OneNode;
use Test::More;

# The tests themselves may write.
$ENV{PGOPTIONS} = '-c default_transaction_read_only=off -c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off';

finish_node();
sql('CREATE ROLE owner LOGIN', 'GRANT CREATE ON SCHEMA public TO owner', 'CREATE TABLE done (isolation text, readonly text, deferred text)', 'GRANT ALL ON done TO PUBLIC');

my %set = (
	role => sub { sql(map { "ALTER ROLE owner SET $_" } @_); },
	database => sub { sql(map { "ALTER DATABASE postgres SET $_" } @_); },
	server => sub { query_ok($node, "ALTER SYSTEM SET $_") foreach @_; sql('SELECT pg_reload_conf()'); });
my %reset = (
	role => 'ALTER ROLE owner RESET ALL', database => 'ALTER DATABASE postgres RESET ALL', server => 'ALTER SYSTEM RESET ALL');
my $facts = q{current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable')};

foreach my $where ('role', 'database', 'server')
{
	note "of the $where";
	create_target($node, $where, $rows);
	sql("ALTER TABLE $where OWNER TO owner");
	$set{$where}->('default_transaction_read_only = on', 'default_transaction_isolation = serializable', 'default_transaction_deferrable = on');
	my $finish = qq{
		VACUUM (ANALYZE) $where;
		CREATE INDEX CONCURRENTLY ${where}_n ON $where (n);
		DO \$\$ BEGIN INSERT INTO done SELECT $facts; COMMIT; INSERT INTO done SELECT $facts; COMMIT; END \$\$;
		REINDEX INDEX CONCURRENTLY ${where}_n};
	my $id = start($where, role => 'owner', finish => $finish);
	ok(wait_for_status($node, $id, 'completed'), 'the run completes');
	is(value($id, "coalesce(error, 'none')"), 'none', 'without an error');
	is(sql("SELECT indisvalid FROM pg_index WHERE indexrelid = '${where}_n'::regclass"), 't', 'the index is valid');
	is(sql('SELECT count(*), string_agg(DISTINCT isolation || readonly || deferred, \',\') FROM done'), '2|read committedoffoff', 'each transaction is as ours are');
	check_exactly_once($node, $id, $where, $rows, 'exactly once');

	# a statement that sets it for itself does not stop the bookkeeping
	$id = start($where, role => 'owner', scope => 'false', finish => 'SET default_transaction_read_only = on; DO $$ BEGIN PERFORM 1; COMMIT; END $$');
	ok(wait_for_status($node, $id, 'completed'), 'one that makes its own transactions read-only is put down as done');
	sql($reset{$where}, 'TRUNCATE done', 'SELECT pg_reload_conf()') unless $where eq 'server';
	if ($where eq 'server')
	{
		query_ok($node, $_) foreach $reset{$where}, 'SELECT pg_reload_conf()';
	}
}

$node->stop;
done_testing();
