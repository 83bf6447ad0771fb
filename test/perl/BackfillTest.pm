# What the TAP tests have in common: a cluster with the extension, a table to
# walk, waiting for conditions, crashes of every kind, and the one check that
# everything comes down to, that every row was processed exactly once.
#
# The table that check_exactly_once looks at is made by create_target: the run
# is `UPDATE batch SET n = n + 1` or anything that adds one to n for each row.
# What the foreground writes meanwhile goes to the column "f", or to rows with
# "foreground" set, above the others.
#
# What only the tests of one subject share stands in a module in BackfillTest/.

package BackfillTest;

use strict;
use warnings;

use Exporter 'import';
use File::Basename qw(dirname);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# The superuser has the same name, whoever runs the tests.
$ENV{PGUSER} = 'postgres';

our @EXPORT = qw(
  full_length seed_random
  make_node create_target create_step define_increment start_run another
  query query_ok sqlstate tries wait_for wait_for_status wait_for_server run_value
  node_processes kill_server kill_postmaster await_death worker_pids
  foreground_start foreground_stop session
  exactly_once_problems check_exactly_once
);

# The bound of every wait, in seconds: what takes longer hangs.
our $timeout = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 180;

# What backfill_retry says when it takes so many rows.
sub tries
{
	my ($n) = @_;

	return $n == 0 ? qr/: there is no skipped row to try again$/
	  : $n == 1 ? qr/: 1 skipped row is tried again$/
	  : qr/: $n skipped rows are tried again$/;
}

# Whether the long loops are to have their full length.
sub full_length
{
	return $ENV{BACKFILL_FULL} ? 1 : 0;
}

# Seed the random numbers, and say with what, so that a failure can be had
# again with BACKFILL_SEED.
sub seed_random
{
	my $seed = $ENV{BACKFILL_SEED} || int(time * 1000) % 2147483647;
	srand($seed);
	diag("BACKFILL_SEED=$seed");
	return $seed;
}

# --- A cluster ---------------------------------------------------------------

# A started node with the extension in the database postgres.  Options: conf,
# lines for postgresql.conf; streaming, whether it can have a standby;
# install_path, for another build.
sub make_node
{
	my ($name, %opts) = @_;
	my @path = $opts{install_path} ? (install_path => $opts{install_path}) : ();
	my $node = PostgreSQL::Test::Cluster->new($name, @path);

	$node->init(allows_streaming => $opts{streaming} || 0, extra => [ '-U', 'postgres' ]);
	$node->append_conf(
		'postgresql.conf', qq{
shared_preload_libraries = 'backfill'
backfill.max_workers = 6
max_worker_processes = 16
max_connections = 30
max_prepared_transactions = 5
shared_buffers = 64MB
restart_after_crash = on
log_statement = none
log_line_prefix = '%m [%p] %b %q%a '
log_lock_waits = on
autovacuum_naptime = 5s
} . ($opts{conf} || ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION backfill');
	return $node;
}

# A table with $rows rows, keys 10, 20, 30, ..., that all wait for n = 1.
sub create_target
{
	my ($node, $table, $rows, %opts) = @_;

	$node->safe_psql($opts{db} || 'postgres', qq{
		CREATE TABLE $table (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0,
			f int NOT NULL DEFAULT 0, pad text,
			foreground boolean NOT NULL DEFAULT false);
		INSERT INTO $table (id, pad)
		SELECT i * 10, repeat('x', 40) FROM generate_series(1, $rows) i;
		CREATE SEQUENCE ${table}_seq START @{[$rows * 10 + 1]};
	});
	$node->safe_psql($opts{db} || 'postgres', "VACUUM ANALYZE $table");
	return;
}

# A function step(key) for statements, which does what the table behave says of
# the key: waits at a gate, fails, or fails the first time; and returns 1.
sub create_step
{
	my ($node, %opts) = @_;
	query_ok($node, q{
	CREATE TABLE behave (id bigint, what text);
	GRANT ALL ON behave TO PUBLIC;
	CREATE SEQUENCE once;
	GRANT ALL ON once TO PUBLIC;
	CREATE FUNCTION step(key bigint) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		what text;
	BEGIN
		LOOP
			SELECT b.what INTO what FROM behave b WHERE b.id = key;
			EXIT WHEN what IS DISTINCT FROM 'gate';
			PERFORM pg_sleep(0.01);
		END LOOP;
		IF what = 'fail' THEN
			RAISE EXCEPTION 'row % is bad', key USING ERRCODE = 'data_exception';
		ELSIF what = 'once' THEN
			IF nextval('once') = 1 THEN
				RAISE EXCEPTION 'try again' USING ERRCODE = 'serialization_failure';
			END IF;
		END IF;
		RETURN 1;
	END $$;
});
	return;
}

# A definition of that name which adds one to n of the table of that name.  With
# the parameter "number", which the statement does not read, runs of it are told
# apart: see start_run.
sub define_increment
{
	my ($node, $name, $settings, %opts) = @_;
	my $target = $opts{target} || $name;
	my $statement = $opts{statement} || 'UPDATE batch SET n = n + 1';

	$node->safe_psql($opts{db} || 'postgres', qq{
		SELECT backfill_define('$name', target => '$target',
			statement => \$stmt\$$statement\$stmt\$, settings => '$settings',
			parameters => '@{[$opts{numbered} ? '{"number": "int"}' : '{}']}')});
	return;
}

sub start_run
{
	my ($node, $name, %opts) = @_;
	return $node->safe_psql($opts{db} || 'postgres', "SELECT backfill_start('$name')");
}

# The argument of backfill_start that makes a run of a numbered definition unlike
# every other.
my $number = 0;
sub another
{
	return qq(parameters => '{"number": @{[++$number]}}');
}

# --- Queries and waiting -----------------------------------------------------

# Run SQL in a new session, whatever the state of the server: exit code of
# psql, output, errors.
sub query
{
	my ($node, $sql, %opts) = @_;
	my ($out, $err) = ('', '');
	my @command = (
		'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1',
		@{ $opts{flags} || [] },
		'-d', $node->connstr($opts{db} || 'postgres'), '-c', $sql);

	IPC::Run::run(\@command, '<', \'', '>', \$out, '2>', \$err);
	my $rc = $? >> 8;
	chomp $out;
	return ($rc, $out, $err);
}

# The output of SQL that is to succeed.
sub query_ok
{
	my ($node, $sql, %opts) = @_;
	my ($rc, $out, $err) = query($node, $sql, %opts);
	die "query failed: $sql\n$err" if $rc != 0;
	return $out;
}

# The SQLSTATE that the SQL raises, or "00000".
sub sqlstate
{
	my ($node, $sql, %opts) = @_;
	my ($rc, $out, $err) = query($node, $sql, flags => [ '-v', 'VERBOSITY=sqlstate' ], %opts);
	return '00000' if $rc == 0;
	return $err =~ /ERROR:\s+([0-9A-Z]{5})/ ? $1 : "no SQLSTATE: $err";
}

# Wait until the query returns the value ("t" unless told).  Lives through
# times in which there is no server.  Returns whether it came true.
#
# The first look is a psql of its own.  The next ones share a session, which
# costs the machine a tenth of that, and which is gone when this returns.
sub wait_for
{
	my ($node, $sql, %opts) = @_;
	my $expected = defined $opts{expected} ? $opts{expected} : 't';
	my $until = time + ($opts{timeout} || $timeout);
	my ($rc, $out, $err) = query($node, $sql, %opts);
	my $watcher;
	my $came_true = 1;
	local $SIG{PIPE} = 'IGNORE';

	until (defined $out && $rc == 0 && $out eq $expected)
	{
		if (time > $until)
		{
			diag("waited in vain for \"$expected\" from: $sql\nlast answer: " . ($out // '') . "\n$err");
			$came_true = 0;
			last;
		}
		usleep($opts{interval} || 20_000);
		($rc, $err) = (0, '');
		$out = eval {
			$watcher ||= BackfillTest::Session->new($node, %opts, quiet => 1);
			$watcher->query($sql);
		};
		next if defined $out;
		# there is no server, or no longer
		$err = $@;
		$watcher->{run}->kill_kill(grace => 1) if $watcher;
		$watcher = undef;
	}
	$watcher->quit if $watcher;
	return $came_true;
}

sub run_value
{
	my ($node, $id, $expression, %opts) = @_;
	return query_ok($node, "SELECT $expression FROM backfill_runs WHERE id = $id", %opts);
}

# Wait until the run has that status; says what became of it otherwise.
sub wait_for_status
{
	my ($node, $id, $status, %opts) = @_;
	my $ended = "status IN ('completed', 'failed', 'stopped')";
	my $ok = wait_for($node,
		"SELECT status = '$status' OR (" . ($opts{through_end} ? 'false' : $ended)
		  . ") FROM backfill_runs WHERE id = $id", %opts);
	my ($rc, $out, $err) = query($node,
		"SELECT status, requested, wait_reason, error FROM backfill.run WHERE id = $id", %opts);

	return 1 if $ok && $out =~ /^\Q$status\E\|/;
	diag("run $id is to be $status and is: $out$err");
	return 0;
}

sub wait_for_server
{
	my ($node) = @_;
	return wait_for($node, 'SELECT true');
}

# The processes of the run's workers.
sub worker_pids
{
	my ($node, $id, %opts) = @_;
	my ($rc, $out) = query($node,
		"SELECT pid FROM backfill_workers WHERE run_id = $id AND pid > 0 ORDER BY worker", %opts);
	return $rc == 0 ? split(/\n/, $out) : ();
}

# --- Crashes -----------------------------------------------------------------

# Every process of the node, the postmaster first.
sub node_processes
{
	my ($node) = @_;
	my $dir = $node->data_dir;
	my @pids;

	opendir(my $proc, '/proc') or die "cannot read /proc: $!";
	foreach my $pid (grep { /^\d+$/ } readdir($proc))
	{
		my $cwd = readlink("/proc/$pid/cwd");
		push @pids, $pid if defined $cwd && $cwd eq $dir;
	}
	closedir($proc);
	return sort { $a <=> $b } @pids;
}

# Wait until no process of the node is left, nor a zombie with the id of the
# postmaster, which a new one would take for it.
sub await_death
{
	my ($node, $postmaster, $bound) = @_;
	my $until = time + ($bound || $timeout);

	for (;;)
	{
		my @pids = node_processes($node);
		push @pids, $postmaster if $postmaster && kill(0, $postmaster);
		last unless @pids;
		if (time > $until)
		{
			diag("processes outlived their server: @pids");
			return 0;
		}
		usleep(20_000);
	}
	return 1;
}

# SIGKILL to the postmaster alone: its children notice and leave, in so many
# seconds at most.
sub kill_postmaster
{
	my ($node, $bound) = @_;
	my $postmaster = $node->{_pid};

	$node->kill9;
	return await_death($node, $postmaster, $bound);
}

# SIGKILL to every process at once.
sub kill_server
{
	my ($node) = @_;
	my $postmaster = $node->{_pid};
	my @pids = node_processes($node);

	# the postmaster must not see its children die
	$node->kill9;
	kill('KILL', @pids);
	return await_death($node, $postmaster);
}

# --- The foreground ----------------------------------------------------------

# Writes beside the run until foreground_stop or the death of the server:
# updates of random rows, two in a transaction, and new rows above the others.
sub foreground_start
{
	my ($node, $table, $rows, %opts) = @_;
	my $script = $node->basedir . "/foreground_$table.sql";
	PostgreSQL::Test::Utils::append_to_file($script, qq{
\\set a random(1, $rows) * 10
\\set b random(1, $rows) * 10
BEGIN;
UPDATE $table SET f = f + 1 WHERE id = :a;
UPDATE $table SET f = f + 1 WHERE id = :b;
INSERT INTO $table (id, pad, foreground) VALUES (nextval('${table}_seq'), 'new', true);
COMMIT;
}) unless -e $script;
	my $run = IPC::Run::start(
		[
			'pgbench', '-n', '-c', 2, '-T', 3600, '-R', $opts{rate} || 300,
			'-f', $script, $node->connstr($opts{db} || 'postgres')
		],
		# nobody reads a pipe meanwhile
		'<', \'', '>', "$script.out", '2>&1');
	return { run => $run };
}

sub foreground_stop
{
	my ($foreground) = @_;
	$foreground->{run}->kill_kill(grace => 1);
	return;
}

# --- Sessions ----------------------------------------------------------------

# A psql that stays: $session->query($sql) returns the output, errors included;
# $session->send($sql) does not wait; $session->quit.
sub session
{
	my ($node, %opts) = @_;
	return BackfillTest::Session->new($node, %opts);
}

# --- The check ---------------------------------------------------------------

# What is wrong with the run over the table: a list of sentences, empty when
# every row that was there at the start was processed exactly once, the
# completed batches are disjoint and cover the range, and the sums agree.
sub exactly_once_problems
{
	my ($node, $id, $table, $rows, %opts) = @_;
	my @problems;
	my $count = sub {
		return query_ok($node, $_[0], %opts);
	};
	my $expect = sub {
		my ($what, $sql, $expected) = @_;
		my $got = $count->($sql);
		push @problems, "$what: $got instead of $expected" if $got ne $expected;
	};
	my $batches = "(SELECT number, status, start_inclusive, start_key[1]::bigint AS lower,
		end_key[1]::bigint AS upper, rows_scanned, rows_affected,
		lag(end_key[1]::bigint) OVER w AS upper_before, lag(number) OVER w AS number_before
		FROM backfill_batches WHERE run_id = $id WINDOW w AS (ORDER BY end_key[1]::bigint)) b";

	# the rows
	$expect->('rows that were there at the start',
		"SELECT count(*) FROM $table WHERE NOT foreground", $rows);
	$expect->('rows never processed',
		"SELECT count(*) FROM $table WHERE NOT foreground AND n = 0", 0);
	$expect->('rows processed more than once',
		"SELECT count(*) FROM $table WHERE n > 1", 0);
	$expect->('rows above the end of the walk that were processed',
		"SELECT count(*) FROM $table WHERE n <> 0 AND id >
			(SELECT max(end_key[1]::bigint) FROM backfill_batches WHERE run_id = $id)", 0);

	# the batches
	$expect->('batches that are not completed',
		"SELECT count(*) FROM $batches WHERE status <> 'completed'", 0);
	$expect->('number of the first batch', "SELECT min(number) FROM $batches", 1);
	$expect->('lower end of the first batch',
		"SELECT lower FROM $batches WHERE upper_before IS NULL AND start_inclusive",
		$count->("SELECT min(id) FROM $table"));
	$expect->('batches that do not begin where the one before ends',
		"SELECT count(*) FROM $batches WHERE upper_before IS NOT NULL AND
			(start_inclusive OR lower <> upper_before OR number NOT IN (number_before, number_before + 1))", 0);
	$expect->('batches that are empty or run backwards',
		"SELECT count(*) FROM $batches WHERE upper < lower OR (upper = lower AND NOT start_inclusive)", 0);
	$expect->('whether the last batch ends at the last row or later',
		"SELECT max(upper) >= (SELECT max(id) FROM $table WHERE NOT foreground) FROM $batches", 't');

	# the sums
	$expect->('sum of rows_affected over the batches',
		"SELECT sum(rows_affected) FROM $batches",
		$count->("SELECT sum(n) FROM $table"));
	$expect->('batches whose rows_affected is not what happened in their range',
		"SELECT count(*) FROM $batches WHERE rows_affected <>
			(SELECT coalesce(sum(n), 0) FROM $table t
			  WHERE (id > lower OR start_inclusive AND id = lower) AND id <= upper)", 0);
	$expect->('batches, rows_scanned, rows_affected, wal_bytes in backfill_runs',
		"SELECT batches, rows_scanned, rows_affected, wal_bytes
		   FROM backfill_runs WHERE id = $id",
		$count->("SELECT count(*), sum(rows_scanned), sum(rows_affected), sum(wal_bytes)
		   FROM backfill_batches WHERE run_id = $id"));
	return @problems;
}

sub check_exactly_once
{
	my ($node, $id, $table, $rows, $name, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @problems = exactly_once_problems($node, $id, $table, $rows, %opts);

	return is(join("\n", @problems), '', $name);
}

package BackfillTest::Session;

use strict;
use warnings;

sub new
{
	my ($class, $node, %opts) = @_;
	my $self = bless { in => '', out => '', n => 0 }, $class;

	$self->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', @{ $opts{flags} || [] }, '-d', $node->connstr($opts{db} || 'postgres'), '-f', '-' ],
		'<', \$self->{in}, '>', \$self->{out}, '2>&1',
		IPC::Run::timer($BackfillTest::timeout * 2));
	$self->query('SET client_min_messages = error') if $opts{quiet};
	$self->{pid} = $self->query('SELECT pg_backend_pid()');
	return $self;
}

# Process id of the session's backend.
sub pid
{
	my ($self) = @_;
	return $self->{pid};
}

sub send
{
	my ($self, $sql) = @_;
	$self->{in} .= "$sql;\n";
	$self->{run}->pump_nb;
	return;
}

sub query
{
	my ($self, $sql) = @_;
	my $mark = 'done-' . ++$self->{n};
	my $until = Time::HiRes::time() + $BackfillTest::timeout;

	$self->{out} = '';
	$self->{in} .= "$sql;\n\\echo $mark\n";
	while ($self->{out} !~ /^\Q$mark\E$/m)
	{
		$self->{run}->pump_nb;
		die "no answer to: $sql\n$self->{out}"
		  if Time::HiRes::time() > $until || !$self->{run}->pumpable;
		Time::HiRes::usleep(2_000);
	}
	my $out = $self->{out};
	$out =~ s/^\Q$mark\E\n//m;
	chomp $out;
	return $out;
}

sub quit
{
	my ($self) = @_;
	$self->{in} .= "\\q\n";
	eval { $self->{run}->finish; };
	return;
}

# --- Parts of batches --------------------------------------------------------

package BackfillTest;

push @EXPORT, qw(parts_problems check_parts);

# What is wrong with the batches of a run that has ended, some of which may have
# been divided and some be rows that were skipped, over a table whose key is one
# integer: a list of sentences.  Completed ranges are to have n = 1 in every
# row, and skipped ones n = 0.  To be ended, it has to be completed.
sub parts_problems
{
	my ($node, $id, $table, %opts) = @_;
	my @problems;
	my $expect = sub {
		my ($what, $sql, $expected) = @_;
		my $got = query_ok($node, $sql, %opts);
		push @problems, "$what: $got instead of $expected" if $got ne $expected;
	};
	my $direction = query_ok($node, "SELECT CASE settings->>'direction' WHEN 'desc' THEN 'DESC' ELSE 'ASC' END
		FROM backfill_runs WHERE id = $id", %opts);
	my $b = "(SELECT *, least(start_key[1]::bigint, end_key[1]::bigint) AS low, greatest(start_key[1]::bigint, end_key[1]::bigint) AS high,
		lag(end_key) OVER w AS end_before, lag(number) OVER w AS number_before, lead(number) OVER w AS number_after
		FROM backfill_batches WHERE run_id = $id WINDOW w AS (ORDER BY end_key[1]::bigint $direction)) b";
	my $in_range = "t.id BETWEEN low AND high AND (start_inclusive OR t.id <> start_key[1]::bigint)";

	$expect->('parts that do not begin where the one before ends',
		"SELECT count(*) FROM $b WHERE CASE WHEN end_before IS NULL THEN NOT start_inclusive
			ELSE start_inclusive OR start_key <> end_before END", 0);
	$expect->('parts that are empty', "SELECT count(*) FROM $b WHERE low = high AND NOT start_inclusive", 0);
	$expect->('numbers that do not follow one another',
		"SELECT count(*) FROM $b WHERE number - coalesce(number_before, 0) NOT IN (1, CASE WHEN number_before IS NULL THEN 1 ELSE 0 END)", 0);
	$expect->('batches whose last part is not part 0',
		"SELECT count(*) FROM $b WHERE (part = 0) <> (number_after IS DISTINCT FROM number)", 0);
	$expect->('batches that are neither completed nor skipped',
		"SELECT count(*) FROM $b WHERE status <> 'completed' AND NOT (status = 'failed' AND skipped) OR status = 'completed' AND skipped", 0);
	$expect->('rows outside of the batches, or not as these say',
		"SELECT count(*) FROM $table t LEFT JOIN $b ON $in_range WHERE b.status IS NULL OR n <> (b.status = 'completed')::int", 0);
	$expect->('batches whose rows_affected is not what happened in their range',
		"SELECT count(*) FROM $b WHERE status = 'completed' AND rows_affected <> (SELECT coalesce(sum(n), 0) FROM $table t WHERE $in_range)", 0);
	$expect->('skipped batches without an error, or errors without one',
		"SELECT count(*) FROM (SELECT number, part FROM backfill_batches WHERE run_id = $id AND skipped) s
			FULL JOIN (SELECT number, part FROM backfill_errors WHERE run_id = $id AND resolved_at IS NULL) e USING (number, part)
			WHERE s IS NULL OR e IS NULL", 0);
	$expect->('errors whose key is no row of their range',
		"SELECT count(*) FROM backfill_errors e JOIN $b USING (run_id, number, part)
			WHERE NOT EXISTS (SELECT FROM $table t WHERE $in_range AND t.id = e.key[1]::bigint)", 0);
	$expect->('batches, rows_scanned, rows_affected, wal_bytes, errors in backfill_runs',
		"SELECT batches, rows_scanned, rows_affected, wal_bytes, errors FROM backfill_runs WHERE id = $id",
		query_ok($node, "SELECT count(*) FILTER (WHERE NOT skipped), coalesce(sum(rows_scanned) FILTER (WHERE NOT skipped), 0),
			coalesce(sum(rows_affected) FILTER (WHERE NOT skipped), 0), coalesce(sum(wal_bytes) FILTER (WHERE NOT skipped), 0), count(*) FILTER (WHERE skipped)
			FROM backfill_batches WHERE run_id = $id", %opts));
	return @problems;
}

sub check_parts
{
	my ($node, $id, $table, $name, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(join("\n", parts_problems($node, $id, $table, %opts)), '', $name);
}

1;
