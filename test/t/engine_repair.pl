# Rows that fail and are repaired: once, in the transaction in which they are tried
# again; what a repair sees; one that does not help; one that is wrong; kills.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');

my $settings = '"batch_size": 50, "target_batch_time": 0, "sleep": 0, "retry_delay": "10 ms", "max_error_rate": 1, "on_error": "skip"';

# Define and start a run of that name over the table of that name; with quotes in
# dollars, since it is put into JSON by the server.
sub begin
{
	my ($name, $statement, $repair, $more, %opts) = @_;
	my $scope = $opts{scope} ? ", scope => \$d\$$opts{scope}\$d\$" : '';
	sql(qq{SELECT backfill_define('$name', '$name', \$d\$$statement\$d\$ $scope, settings => '{$settings@{[$more || '']}}'::jsonb || jsonb_build_object('repair', \$d\$$repair\$d\$::text))});
	return start_run($node, $name);
}

sub events
{
	my ($id) = @_;
	return sql("SELECT string_agg(concat_ws(' ', kind, sqlstate), ', ' ORDER BY id) FROM backfill_events WHERE run_id = $id AND kind IN ('repair', 'skip', 'error', 'retry')");
}

# ---------------------------------------------------------------------------
note 'duplicates: the other one is deleted, or the row is given another name';

sql(q{
	CREATE TABLE people (id int PRIMARY KEY, mail text, lower_mail text UNIQUE);
	INSERT INTO people SELECT i, CASE WHEN i % 10 = 0 THEN 'P' ELSE 'p' END || (i - CASE WHEN i % 10 = 0 THEN 5 ELSE 0 END) || '@x' FROM generate_series(1, 1000) i;
	CREATE TABLE log (run bigint, what text, at xid8 DEFAULT pg_current_xact_id());
});
my $run = begin('people', 'UPDATE batch SET lower_mail = lower(mail)',
	q{WITH gone AS (DELETE FROM people p USING batch b WHERE p.lower_mail = lower(b.mail) AND p.id <> b.id RETURNING p.id)
	  INSERT INTO log SELECT run.id, failed.id || ' ' || failed.sqlstate || ' ' || failed.constraint_name || ' ' || gone.id FROM gone});
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
# the parts of a batch are done in no particular order: whoever comes second fails
is(sql('SELECT count(*), count(*) FILTER (WHERE id % 5 = 0), count(DISTINCT (id + 5) / 10) FILTER (WHERE id % 5 = 0), count(lower_mail) FROM people'), '900|100|100|900', 'of each two one is left');
is(sql(q{SELECT count(*), count(DISTINCT what), bool_and(what ~ '^\d+ 23505 people_lower_mail_key \d+$'), bool_and(abs(split_part(what, ' ', 1)::int - split_part(what, ' ', 4)::int) = 5) FROM log}), '100|100|t|t', 'each was repaired once, and the repair knew key, SQLSTATE and constraint');
is(value($run, 'errors, repaired, rows_affected'), '0|100|1000', 'the run counts them, and no error is left');
is(sql("SELECT count(*), bool_and(repaired), count(resolved_at), count(repair_error), min(sqlstate), min(constraint_name), bool_and(key[1]::int % 5 = 0) FROM backfill_errors WHERE run_id = $run"),
	'100|t|100|0|23505|people_lower_mail_key|t', 'each stands in backfill_errors, repaired');
is(sql("SELECT count(*) FROM backfill_batches b JOIN backfill_errors USING (run_id, number, part) WHERE run_id = $run AND (b.status, skipped, b.rows_scanned, b.rows_affected) = ('completed', false, 1, 1)"), 100, 'its batch is completed');
is(events($run), 'repair 23505', 'an event says so, once');
is(sql("SELECT reason FROM backfill_events WHERE run_id = $run AND kind = 'repair'"), 'duplicate key value violates unique constraint "people_lower_mail_key"', 'with the error');

sql('TRUNCATE log', q{
	CREATE TABLE names (id int PRIMARY KEY, name text, slug text UNIQUE);
	INSERT INTO names SELECT i, 'name ' || i / 4 FROM generate_series(1, 200) i});
$run = begin('names', q{UPDATE batch SET slug = replace(name, ' ', '-')}, q{UPDATE batch SET name = name || ' ' || failed.id}, ', "workers": 2');
ok(wait_for_status($node, $run, 'completed'), 'two workers, another name');
is(sql("SELECT count(slug), count(DISTINCT slug), count(*) FILTER (WHERE name LIKE 'name % %') FROM names"), '200|200|149', 'every row has a name of its own');
is(value($run, 'errors, repaired, rows_affected'), '0|149|200', 'three of four were repaired');

# ---------------------------------------------------------------------------
note 'what a repair sees: the key, the error, parameters, the row as batch, in scope';

sql(q{
	CREATE TABLE pairs (a text COLLATE "C", b date, message int, n int DEFAULT 0, PRIMARY KEY (a, b, message));
	INSERT INTO pairs SELECT 'it''s "' || i, '2024-01-01'::date + i, i FROM generate_series(1, 20) i;
	CREATE TABLE seen (a text, b date, message text, n int, param int, run bigint, detail text, hint text, context text, schema_name text, table_name text, column_name text);
	CREATE FUNCTION fuss(message int, n int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF message = 7 AND n < 7 THEN
			RAISE EXCEPTION 'seven is %', n USING ERRCODE = 'BF007', DETAIL = 'a detail', HINT = 'a hint', SCHEMA = 's', TABLE = 't', COLUMN = 'c';
		END IF;
		RETURN n + 1;
	END $$;
	SELECT backfill_define('pairs', 'pairs', 'UPDATE batch SET n = fuss(message, n)', scope => 'n < 100', parameters => '{"to": "int"}',
		settings => jsonb_build_object('on_error', 'skip', 'max_error_rate', 1, 'set', '{"app.word": "given"}'::jsonb, 'repair', $d$WITH up AS (UPDATE batch SET n = params.to RETURNING n)
		INSERT INTO seen SELECT failed.a, failed.b, failed.message || failed.sqlstate || current_setting('app.word'), batch.n, up.n, run.id, failed.detail, failed.hint, failed.context, failed.schema_name, failed.table_name, failed.column_name FROM batch, up$d$))});
$run = sql(q{SELECT backfill_start('pairs', '{"to": 30}')});
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(sql("SELECT a, b, message, n, param, run = $run, detail, hint, context ~ 'fuss.*\\nbatch 1 of backfill run $run', schema_name, table_name, column_name FROM seen"),
	q{it's "7|2024-01-08|seven is 0BF007given|0|30|t|a detail|a hint|t|s|t|c}, 'all of it; a fact of the error goes before a column of its name');
is(sql('SELECT n, count(*) FROM pairs GROUP BY 1 ORDER BY 1'), "1|19\n31|1", 'and the statement sees what it did');
is(sql("SELECT key, message, repaired FROM backfill_errors WHERE run_id = $run"), q({"it's \"7",2024-01-08,7}|seven is 0|t), 'the error says which row it was');

# ---------------------------------------------------------------------------
note 'repairs that do not help: the row is skipped, and nothing of the repair is left';

sql('TRUNCATE log', q{
	CREATE TABLE hard (id int PRIMARY KEY, n int DEFAULT 0, how text);
	INSERT INTO hard SELECT i, 0, CASE i % 100 WHEN 10 THEN 'never' WHEN 20 THEN 'raises' WHEN 30 THEN 'helps' WHEN 40 THEN 'gone' END FROM generate_series(1, 200) i;
	CREATE FUNCTION attempt(h hard) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF h.how IS NOT NULL THEN RAISE EXCEPTION 'row % %', h.id, h.how USING ERRCODE = 'BF001'; END IF;
		RETURN h.n + 1;
	END $$;
	CREATE FUNCTION mend(key int, how text, message text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO log VALUES (0, key || ' ' || message);
		IF how = 'raises' THEN RAISE EXCEPTION 'cannot mend %', key USING ERRCODE = 'BF002'; END IF;
		IF how = 'helps' THEN UPDATE hard SET how = NULL WHERE id = key; END IF;
		IF how = 'gone' THEN DELETE FROM hard WHERE id = key; END IF;
	END $$});
$run = begin('hard', 'UPDATE batch SET n = attempt(batch)', 'SELECT mend(id, how, failed.message) FROM batch');
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(sql("SELECT key[1], sqlstate, message, repaired, repair_error, attempts, resolved_at IS NULL FROM backfill_errors WHERE run_id = $run ORDER BY key[1]::int"), <<'END' =~ s/\n\z//r, 'each has its own error, and that of its repair');
10|BF001|row 10 never|f|row 10 never|1|t
20|BF001|row 20 raises|f|cannot mend 20|1|t
30|BF001|row 30 helps|t||1|f
40|BF001|row 40 gone|t||1|f
110|BF001|row 110 never|f|row 110 never|1|t
120|BF001|row 120 raises|f|cannot mend 120|1|t
130|BF001|row 130 helps|t||1|f
140|BF001|row 140 gone|t||1|f
END
is(sql('SELECT string_agg(what, $$, $$ ORDER BY split_part(what, $$ $$, 1)::int) FROM log'), 'row 30 helps, row 40 gone, row 130 helps, row 140 gone' =~ s/row (\d+)/$1 row $1/gr, 'what was done by repairs in vain is undone');
is(value($run, 'errors, repaired'), '4|4', 'the run counts both');
is(sql('SELECT n, count(*) FROM hard GROUP BY n ORDER BY n'), "0|4\n1|194", 'all others are done, once');
like(sql("SELECT string_agg(reason, '; ') FROM backfill_events WHERE run_id = $run AND kind = 'skip'"), qr/^row \d+ \w+; not repaired: (?:cannot mend|row) /, 'the event says it, too');

# what is tried again is repaired again
sql(q{UPDATE hard SET how = 'helps' WHERE how IN ('raises')}, q{UPDATE hard SET how = NULL WHERE id = 10});
like(sql("SELECT backfill_retry($run)"), tries(4), 'the skipped rows are tried again');
ok(wait_for_status($node, $run, 'completed'), 'the run completes again');
is(sql("SELECT key[1], repaired, repair_error, attempts, resolved_at IS NULL FROM backfill_errors WHERE run_id = $run AND key[1]::int IN (10, 20, 110, 120) ORDER BY key[1]::int"),
	"10|f|row 10 never|1|f\n20|t||2|f\n110|f|row 110 never|2|t\n120|t||2|f", 'two are repaired now, one was mended by hand, one is left');

# ---------------------------------------------------------------------------
note 'limits count what is left out, not what was repaired';

sql(q{CREATE TABLE many (id int PRIMARY KEY, n int DEFAULT 0, how text); INSERT INTO many SELECT i, 0, 'helps' FROM generate_series(1, 200) i});
$run = begin('many', q{UPDATE batch SET n = 1 / (how IS NULL)::int}, 'UPDATE batch SET how = NULL', ', "max_errors": 1, "max_error_rate": 0.01');
ok(wait_for_status($node, $run, 'completed'), 'the run completes although every row failed');
is(value($run, 'errors, repaired, rows_affected'), '0|200|200', 'and was repaired');

# ---------------------------------------------------------------------------
note 'what is not the fault of the row is not repaired';

sql('TRUNCATE log', q{CREATE TABLE locked (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO locked SELECT generate_series(1, 100)});
my $holder = session($node);
$holder->query('BEGIN; SELECT FROM locked WHERE id = 20 FOR UPDATE');
$run = begin('locked', 'UPDATE batch SET n = n + 1', q{INSERT INTO log SELECT 1, 'locked ' || id FROM batch}, ', "lock_timeout": "20 ms", "max_attempts": 2, "yield_after": 0');
ok(wait_for_status($node, $run, 'completed'), 'a locked row is skipped at last');
is(sql("SELECT key[1], sqlstate, repaired, repair_error FROM backfill_errors WHERE run_id = $run") . sql('SELECT count(*) FROM log'), '20|55P03|f|0', 'without a repair');

# a repair that meets a lock waits for it: the row is tried again, and repaired
sql('TRUNCATE log', q{CREATE TABLE waits (id int PRIMARY KEY, n int DEFAULT 0, bad bool DEFAULT false); INSERT INTO waits SELECT i, 0, i = 40 FROM generate_series(1, 100) i});
$run = begin('waits', 'UPDATE batch SET n = 1 / (NOT bad)::int', q{WITH l AS (UPDATE locked SET n = n WHERE id = 20), w AS (UPDATE batch SET bad = false RETURNING id) INSERT INTO log SELECT 2, 'waits ' || id FROM w},
	', "lock_timeout": "20 ms", "max_attempts": 1000, "yield_after": 0');
ok(wait_for($node, "SELECT count(*) > 2 FROM backfill_events WHERE run_id = $run AND kind = 'retry' AND sqlstate = '55P03'"), 'a repair that meets a lock is tried again');
is(sql("SELECT count(*) FROM log"), 0, 'and has not happened');
$holder->query('COMMIT');
ok(wait_for_status($node, $run, 'completed'), 'until the lock is free');
is(sql('SELECT string_agg(what, $$, $$) FROM log') . sql(' SELECT sum(n) FROM waits'), 'waits 40100', 'then it has, once');
is(value($run, 'errors, repaired'), '0|1', 'and the row is no error');
$holder->quit;

# ---------------------------------------------------------------------------
note 'a repair that is wrong is refused, or fails the run; it runs as the owner';

my %wrong = (
	'UPDATE nowhere SET x = 1' => qr/42P01.*relation "nowhere" does not exist/s,
	'SELECT failed.nothing' => qr/42P02.*there is no "failed\.nothing"/s,
	'SELECT failed.mesage' => qr/Perhaps you meant "failed\.message"/,
	'UPDATE batch SET id = 1' => qr/0A000.*cannot change the key column "id"/s,
	'VACUUM' => qr/0A000.*VACUUM cannot be the statement of a backfill/s,
	'SELECT 1; SELECT 2' => qr/22023.*one SQL statement/s,
	'SELECT $1' => qr/42P02/);
foreach my $repair (sort keys %wrong)
{
	like(refusal(qq{SELECT backfill_define('wrong', 'many', 'UPDATE batch SET n = 1', settings => jsonb_build_object('on_error', 'skip', 'repair', '$repair'))}), $wrong{$repair}, "refused: $repair");
}
like(refusal(qq{SELECT backfill_define('wrong', 'many', 'UPDATE batch SET n = 1', settings => '{"repair": "SELECT 1"}')}), qr/22023.*"repair" needs the setting "on_error"/s, 'and so is one without "skip"');
like(refusal(qq{SELECT backfill_define('wrong', 'many', 'UPDATE batch SET n = failed.id', settings => '{"on_error": "skip", "repair": "SELECT 1"}')}), qr/42P01.*missing FROM-clause entry for table "failed"/s, 'the statement cannot read it');

sql(q{
	CREATE ROLE owner LOGIN; CREATE ROLE member LOGIN IN ROLE owner; GRANT ALL ON SCHEMA public TO owner;
	CREATE TABLE owned AS SELECT i AS id, 0 AS n, i = 50 AS bad FROM generate_series(1, 100) i; ALTER TABLE owned ADD PRIMARY KEY (id); ALTER TABLE owned OWNER TO owner;
	CREATE TABLE who (who text); GRANT INSERT ON who TO owner});
as('owner', q{SELECT backfill_define('owned', 'owned', 'UPDATE batch SET n = 1 / (NOT bad)::int', settings => jsonb_build_object('on_error', 'skip', 'target_batch_time', 0, 'batch_size', 40,
	'repair', $$WITH w AS (INSERT INTO who VALUES (session_user || ' ' || current_user)) UPDATE batch SET bad = false$$))});
sql('REVOKE INSERT ON who FROM owner');
$run = as('owner', q{SELECT backfill_start('owned', settings => '{"repair": "UPDATE batch SET bad = false, n = -1"}')});
ok(wait_for_status($node, $run, 'completed'), 'the repair of a run beats that of the definition');
is(sql('SELECT count(*) FROM who') . sql(' SELECT count(*) FROM owned WHERE n = 1'), '0100', 'and is what was run');
is(state_of('owner', q{SELECT backfill_start('owned')}), '42501', 'one that would fail at once is refused when a run is started');
sql('GRANT INSERT ON who TO owner', 'UPDATE owned SET bad = true WHERE id = 50');
SKIP:
{
	skip 'before 16 whoever has the rights may SET ROLE', 1 if sql('SHOW server_version_num') < 160000;
	sql('REVOKE owner FROM member', 'GRANT owner TO member WITH SET FALSE');
	is(state_of('member', q{SELECT backfill_start('owned', settings => '{"repair": "SELECT 1"}')}), '42501', 'who may not become the owner gives no repair');
}
$run = as('owner', q{SELECT backfill_start('owned')});
ok(wait_for_status($node, $run, 'completed'), 'the run completes');
is(sql('SELECT who FROM who'), 'owner owner', 'as whom it ran');

# a right that is gone meanwhile is no fault of the row
sql(q{CREATE FUNCTION needed() RETURNS int LANGUAGE sql AS 'SELECT 1'}, 'UPDATE owned SET bad = true WHERE id = 50');
$run = as('owner', q{SELECT backfill_start('owned', settings => '{"sleep": "10 min", "repair": "UPDATE batch SET bad = false, n = needed()"}')});
ok(wait_for($node, "SELECT batches >= 1 FROM backfill_runs WHERE id = $run"), 'a run is on its way');
sql('DROP FUNCTION needed()', qq{SELECT backfill_alter($run, '{"sleep": 0}')});
ok(wait_for_status($node, $run, 'failed'), 'what the repair needs is gone: the run fails');
like(value($run, 'sqlstate, error, error_context'), qr/^42883\|function needed\(\) does not exist\|.*repair of a row with the error 22012/s, 'and says that it was the repair');
like(refusal(qq{SELECT backfill_alter($run, '{"repair": "UPDATE batch SET bad = nothing()"}')}), qr/42883/, 'another one is checked');
sql(qq{SELECT backfill_alter($run, '{"repair": "UPDATE batch SET bad = false"}')}, "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'with another one it goes on');
is(value($run, 'errors, repaired'), '0|1', 'and the row is repaired');

# altered while a run is at work, it holds for the next row
sql(q{CREATE TABLE altered (id int PRIMARY KEY, n int DEFAULT 0, bad bool DEFAULT true, by text); INSERT INTO altered SELECT generate_series(1, 20)});
$run = begin('altered', 'UPDATE batch SET n = 1 / (NOT bad)::int', q{UPDATE batch SET bad = false, by = 'first'}, ', "batch_size": 1, "max_batches": 5');
ok(settles($run, 'paused'), 'after some rows');
sql(qq{SELECT backfill_alter($run, '{"repair": "UPDATE batch SET bad = false, by = ''second''", "max_batches": null}')}, "SELECT backfill_resume($run)");
ok(wait_for_status($node, $run, 'completed'), 'the repair is another one');
is(sql('SELECT by, count(*) FROM altered GROUP BY 1 ORDER BY 1'), "first|5\nsecond|15", 'and each row had the one of its time');

# hooks see a batch that is completed
sql(q{CREATE TABLE calls (what text); CREATE FUNCTION told(e backfill_event) RETURNS void LANGUAGE sql AS $$INSERT INTO calls VALUES (e.status || coalesce(' ' || e.error, ''))$$;
	CREATE TABLE hooked (id int PRIMARY KEY, n int DEFAULT 0, bad bool DEFAULT true); INSERT INTO hooked SELECT generate_series(1, 2)});
sql(q{SELECT backfill_define('hooked', 'hooked', 'UPDATE batch SET n = 1 / (NOT bad)::int', settings => '{"on_error": "skip", "max_error_rate": 1, "batch_size": 1, "target_batch_time": 0, "repair": "UPDATE batch SET bad = id > 1"}')},
	q{SELECT backfill_on('before batch completed', 'told', 'hooked')}, q{SELECT backfill_on('before batch failed', 'told', 'hooked')});
$run = start_run($node, 'hooked');
ok(wait_for_status($node, $run, 'completed'), 'a run with hooks');
is(sql(q{SELECT string_agg(what, ', ') FROM calls}), 'completed, failed division by zero', 'they are called for the row that was repaired, and for the one that was not');

# several statements, a walk downwards, the first row of the walk
sql(q{CREATE TABLE down (id int PRIMARY KEY, n int DEFAULT 0, bad bool); INSERT INTO down SELECT i, 0, i IN (1, 60, 100) FROM generate_series(1, 100) i; CREATE TABLE copies (id int)});
$run = begin('down', 'INSERT INTO copies SELECT id FROM batch; UPDATE batch SET n = 1 / (NOT bad)::int', 'UPDATE batch SET bad = false', ', "direction": "desc"');
ok(wait_for_status($node, $run, 'completed'), 'several statements, downwards');
is(sql('SELECT count(*), count(DISTINCT id) FROM copies') . sql(' SELECT sum(n) FROM down'), '100|100100', 'each row once');
is(value($run, 'errors, repaired'), '0|3', 'the first, the last and one between are repaired');

# ---------------------------------------------------------------------------
note 'the server is killed in a repair, and after it in the statement; the run is stopped there';

sql('TRUNCATE log', q{CREATE TABLE deadly (id int PRIMARY KEY, n int DEFAULT 0, bad bool); INSERT INTO deadly SELECT i, 0, i % 100 = 0 FROM generate_series(1, 1000) i});
create_step($node);
sql(q{INSERT INTO behave VALUES (-200, 'gate'), (500, 'gate'), (-800, 'gate')});
$run = begin('deadly', 'UPDATE batch SET n = n + 1 / (NOT bad)::int * step(id)',
	q{WITH l AS (INSERT INTO log SELECT run.id, 'deadly ' || id FROM batch) UPDATE batch SET bad = step(-id) = 0}, ', "synchronous_commit": "on"');

# Batches of 50: the last row of each is the one.
foreach my $batch (4, 10, 16)
{
	foreach my $kill (1, 2)
	{
		ok(at_gate($run, $batch), "the repair of a row of batch $batch is under way, or what comes after it");
		my $id = $batch * 50;
		is(sql("SELECT count(*) FROM log WHERE what = 'deadly $id'"), 0, 'nobody sees it');
		if ($batch == 16)
		{
			sql("SELECT backfill_stop($run, immediate => true)");
			ok(wait_for_status($node, $run, 'stopped'), 'then the run is stopped at once');
			sql("SELECT backfill_resume($run)");
			next;
		}
		ok($kill == 1 ? kill_postmaster($node) : kill_server($node), 'then the server is killed');
		$node->start;
		ok(wait_for_server($node), 'and comes back');
	}
	sql("DELETE FROM behave WHERE abs(id) = $batch * 50");
}
ok(wait_for_status($node, $run, 'completed', through_end => 1), 'the run completes');
is(sql(q{SELECT count(*), count(DISTINCT what) FROM log WHERE what LIKE 'deadly %'}), '10|10', 'each of ten rows was repaired once');
is(sql('SELECT n, bad, count(*) FROM deadly GROUP BY 1, 2'), '1|f|1000', 'and every row was changed once');
is(value($run, 'errors, repaired, rows_affected'), '0|10|1000', 'and so says the run');
is(sql("SELECT count(*), bool_and(repaired AND resolved_at IS NOT NULL AND attempts = 1) FROM backfill_errors WHERE run_id = $run"), '10|t', 'each row stands there once');

$node->stop;
done_testing();
