# A library and SQL objects that are of different versions say so, and touch
# nothing, until ALTER EXTENSION UPDATE or the installation has brought them
# together.
#
# There is one version so far.  An older and a newer one are made here: the SQL
# objects of this one under other numbers, and scripts that lead from one to the
# next as those of a release do.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use PostgreSQL::Test::Utils;
use Test::More;

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
my $dir = "$sharedir/extension";
my ($version) = slurp_file("$dir/backfill.control") =~ /^default_version = '(.*)'/m;
my $script = slurp_file("$dir/backfill--$version.sql");
my @made;

sub make_script
{
	my ($name, $sql) = @_;
	push @made, "$dir/backfill--$name.sql";
	open(my $out, '>', $made[-1]) or die "cannot write $made[-1]: $!";
	print $out $sql;
	close($out);
	return;
}
END { unlink @made; }

# The older one lacks a function, a comment and a column of a view.
my $old = $script;
$old =~ s/^CREATE FUNCTION \@extschema\@\.backfill_unschedule\(.*?;\n.*?;\n//ms or die 'no such function';
make_script('0.9', $old);
make_script("0.9--$version", q{\echo Use "ALTER EXTENSION backfill UPDATE" to load this file. \quit
} . ($script =~ /^(CREATE FUNCTION \@extschema\@\.backfill_unschedule\(.*?;\n.*?;\n)/ms)[0] . "SELECT backfill.wake();\n");
make_script("$version--99.10", "SELECT backfill.wake();\n");
make_script("99.10--$version", "SELECT backfill.wake();\n");

one_node('versions');

# Every object of the extension, with what it says of itself.
my $objects = q{SELECT pg_describe_object(classid, objid, 0), coalesce(obj_description(objid, classid::regclass::name), ''),
	CASE classid WHEN 'pg_proc'::regclass THEN pg_get_functiondef(objid) || coalesce((SELECT proacl::text FROM pg_proc WHERE oid = objid), '')
		WHEN 'pg_class'::regclass THEN coalesce((SELECT relacl::text FROM pg_class WHERE oid = objid), '') || (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod),
			attnotnull, col_description(attrelid, attnum)), ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = objid AND attnum > 0) END
	FROM pg_depend WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'backfill') ORDER BY 1};
my $fresh = sql($objects);
cmp_ok(scalar(split(/\n/, $fresh)), '>', 40, 'the objects of the extension as it is installed');

# ---------------------------------------------------------------------------
note 'the library is newer';

sql(q{DROP EXTENSION backfill; CREATE EXTENSION backfill VERSION '0.9'});
my $differ = qr/ERROR:  55000: the library of backfill is of version \Q$version\E, its SQL objects in database "postgres" are of version 0\.9/;
create_target($node, 't', 100);
my $define = q{SELECT backfill_define('t', 't', 'UPDATE batch SET n = n + 1', settings => '{"batch_size": 10, "target_batch_time": 0, "sleep": "1 h"}')};
like(refusal($define), $differ, 'a call says so');
like(refusal($define), qr/HINT:  Run ALTER EXTENSION backfill UPDATE in this database\./, 'and what to do');
like(refusal('SELECT backfill_stop_all()'), $differ, 'so does another');
is(sql('SELECT count(*) FROM backfill_runs'), '0', 'the views can be read');
sql('ALTER EXTENSION backfill UPDATE');
is(sql($objects), $fresh, 'an update makes of it what an installation would have made');
sql($define);
my $id = start_run($node, 't');
my $at_work = "SELECT count(*) = 1 FROM backfill_workers WHERE run_id = $id AND state = 'sleeping'";
ok(wait_for($node, $at_work), 'and it works');

# ---------------------------------------------------------------------------
note 'the library is older';

my $nobody = q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('backfill scheduler', 'backfill worker')};
my $at = -s $node->logfile;
sql(q{ALTER EXTENSION backfill UPDATE TO '99.10'});
ok(wait_for($node, $nobody), 'the processes leave a database that was brought on');
like(refusal("SELECT backfill_pause($id)"), qr/of version 99\.10\b.*HINT:  Install the library of version 99\.10, and restart the server\./s, 'a call says so, and what to do');
my $log = slurp_file($node->logfile, $at);
like($log, qr/LOG:  the library of backfill is of version/, 'the log says why they left');
unlike($log, qr/ERROR:  the library.*backfill (worker|scheduler)|failed/, 'as something that was to come');
is(sql("SELECT status FROM backfill_runs WHERE id = $id"), 'running', 'the run is what it was');
$node->restart;
ok(wait_for($node, $nobody), 'a restart changes nothing');
sql("ALTER EXTENSION backfill UPDATE TO '$version'");
ok(wait_for($node, $at_work), 'it goes on by itself when both are of one version again');
sql("SELECT backfill_alter($id, '{\"sleep\": 0}')");
ok(settles($id, 'completed'), 'and is completed');
check_exactly_once($node, $id, 't', 100, 'every row was processed exactly once');

$node->stop;
done_testing();
