# What comes of a source that fails, gives what is no page, or asks to be left alone for a while;
# what a page is for the limits, and for rows that fail; who applies pages in which order.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main', conf => "timezone = 'UTC'\n");

# A source that gives the pages 1, 2, 3, ... of ten records; what it does first is a line of PL/pgSQL.
# "c" counts its calls, also those that fail.
sub create_source
{
	my ($name, $first, %opts) = @_;
	my $pages = $opts{pages} || 3;

	sql(qq{
		CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, name text CHECK (name <> 'bad'), applied int NOT NULL);
		CREATE SEQUENCE IF NOT EXISTS calls_of_$name;
		CREATE OR REPLACE FUNCTION $name(token jsonb, event backfill_fetch, OUT records jsonb, OUT next_token jsonb)
		LANGUAGE plpgsql AS \$\$
		DECLARE
			c bigint := nextval('calls_of_$name');
			p int := coalesce(token::int, 1);
		BEGIN
			next_token := CASE WHEN p < $pages THEN to_jsonb(p + 1) END;
			SELECT jsonb_agg(jsonb_build_object('id', p * 100 + i, 'name', 'n' || i)) INTO records FROM generate_series(1, 10) i;
			$first
		END \$\$});
	return;
}

sub define_source
{
	my ($name, $settings, %opts) = @_;
	my $more = join('', map { ", $_ => $opts{$_}" } grep { $_ ne 'statement' } sort keys %opts);

	sql("TRUNCATE t");
	sql("SELECT backfill_define('$name', 't', \$\$"
		  . ($opts{statement} || 'INSERT INTO t SELECT id, name, 1 FROM batch ON CONFLICT (id) DO UPDATE SET applied = t.applied + 1')
		  . "\$\$, source => '$name'$more, settings => '{\"retry_delay\": \"10ms\"$settings}')");
	return;
}

sub calls
{
	my ($name) = @_;
	return sql("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM calls_of_$name");
}

my $all = '30|1';
sub done
{
	return sql("SELECT count(*), max(applied) FROM t");
}

sub ended
{
	my ($id, $status, $what) = @_;
	ok(wait_for_status($node, $id, $status), $what) or diag(sql("SELECT status, error, wait_reason FROM backfill_runs WHERE id = $id"));
	return;
}

# --- Again, and no more ---------------------------------------------------------

create_source('flaky', "IF c IN (1, 3, 4) THEN RAISE EXCEPTION 'the service is away'; END IF;");
define_source('flaky', '');
my $id = start_run($node, 'flaky');
ended($id, 'completed', 'what fails for whatever reason is tried again');
is(done(), $all, 'and each page is applied once');
is(calls('flaky'), 6, 'after as many calls as it takes');
is(sql("SELECT count(*) FROM backfill_events WHERE run_id = $id AND kind = 'retry' AND reason = 'the service is away'"), 3,
	'each failure is an event');

create_source('down', "IF p = 2 AND c < 100 THEN RAISE EXCEPTION 'the service is down'; END IF;");
define_source('down', ', "max_attempts": 3');
$id = start_run($node, 'down');
ended($id, 'failed', 'but not more often than max_attempts');
is(run_value($node, $id, 'error'), 'the service is down', 'with its error');
like(run_value($node, $id, 'error_context'), qr/source of the backfill.*page 2 of backfill run $id/s, 'which says where');
is(calls('down'), 4, 'after three attempts at the second page');
is(done(), '10|1', 'what was fetched before is applied');
sql("SELECT setval('calls_of_down', 200)");
sql("SELECT backfill_resume($id)");
ended($id, 'completed', 'a resume goes on');
is(done(), $all, 'where it was');
is(calls('down'), 202, 'and fetches nothing again');

create_source('broken', 'PERFORM 1 FROM no_such_table;');
define_source('broken', '');
$id = start_run($node, 'broken');
ended($id, 'failed', 'an error in the text of the function fails the run');
is(calls('broken'), 1, 'at once');

# --- No page --------------------------------------------------------------------

foreach my $case (
	[ 'no_array', q(records := '{"id": 1}';), qr/^the records from function public\.no_array are no array$/ ],
	[ 'same_token', 'next_token := to_jsonb(p);', qr/^the token of the next page from function public\.same_token is the one that was given$/ ])
{
	my ($name, $first, $error) = @$case;

	create_source($name, $first);
	define_source($name, '');
	$id = start_run($node, $name);
	ended($id, 'failed', "$name fails the run");
	like(run_value($node, $id, 'error'), $error, "$name: and says which function");
}

# a page without records, and JSON's null
create_source('nothing', q(IF p = 2 THEN records := NULL; END IF; IF p = 3 THEN records := 'null'; next_token := 'null'; END IF;));
define_source('nothing', '');
$id = start_run($node, 'nothing');
ended($id, 'completed', 'a page may be empty');
is(done(), '10|1', 'and the others count');

sql(q{
	CREATE FUNCTION rows(token jsonb, event backfill_fetch) RETURNS TABLE (record jsonb, next_token jsonb) LANGUAGE sql AS $$
		SELECT jsonb_build_object('id', i, 'name', event.name || event.page || event.attempt),
			CASE WHEN i < 30 THEN to_jsonb(i) END
		  FROM generate_series(coalesce(token::int, 0) + 1, coalesce(token::int, 0) + 10) i $$});
define_source('rows', '');
$id = start_run($node, 'rows');
ended($id, 'completed', 'a source may give a row for each record');
is(sql("SELECT string_agg(DISTINCT name, ' ') FROM t"), 'rows11 rows21 rows31', 'and knows what it is asked for');

# --- Retry-After ----------------------------------------------------------------

create_source('later', q{
	IF c = 1 THEN RAISE EXCEPTION 'slow down' USING HINT = 'retry-after: 0.2'; END IF;
	IF c = 2 THEN RAISE EXCEPTION 'come back' USING HINT = 'Retry-After: ' ||
		to_char(now() AT TIME ZONE 'UTC' + interval '1000 s', 'Dy, DD Mon YYYY HH24:MI:SS "GMT"'); END IF;});
define_source('later', ', "max_attempts": 1');
$id = start_run($node, 'later');
my $waits = "FROM backfill_batches WHERE run_id = $id AND error = 'come back'";
ok(wait_for($node, "SELECT count(*) = 1 $waits AND retry_at BETWEEN now() + '900 s' AND now() + '1001 s'"),
	'a source is not called before the date that it has given, and that is no attempt that failed');
ok(wait_for($node, "SELECT wait_reason LIKE 'waits until % to call the source again: come back' FROM backfill_runs WHERE id = $id"),
	'the run says so');
cmp_ok(sql("SELECT min(at) FILTER (WHERE reason = 'come back') - min(at) FILTER (WHERE reason = 'slow down') >= '0.2 s'
	FROM backfill_events WHERE run_id = $id"), 'eq', 't', 'nor before the seconds are over');
sql("UPDATE backfill.batch SET retry_at = now() WHERE run_id = $id AND retry_at IS NOT NULL");
ended($id, 'completed', 'then it goes on');
is(done(), $all, 'with every page');

create_source('never', q{IF c = 1 THEN RAISE EXCEPTION 'no' USING HINT = 'Retry-After: 99999999999'; END IF;
	IF c = 2 THEN RAISE EXCEPTION 'odd' USING HINT = 'Retry-After: Sun, 99 Nov 1994 08:49:37 GMT'; END IF;});
define_source('never', '');
$id = start_run($node, 'never');
ok(wait_for($node, "SELECT retry_at BETWEEN now() + '23 h' AND now() + '24 h' FROM backfill_batches WHERE run_id = $id"),
	'nobody is waited for longer than a day');
sql("UPDATE backfill.batch SET retry_at = now() WHERE run_id = $id AND retry_at IS NOT NULL");
ended($id, 'completed', 'what is no date is not minded');

# --- The check ------------------------------------------------------------------

create_source('checked', '');
sql(q{CREATE TABLE credential (name text);
	CREATE FUNCTION check_it(event backfill_fetch) RETURNS text LANGUAGE sql AS
		$$ SELECT 'a row in table "credential"' WHERE NOT EXISTS (SELECT FROM credential) $$});
define_source('checked', '', source_check => "'check_it'");
$id = start_run($node, 'checked');
ended($id, 'failed', 'a run whose source is not ready fails');
is(run_value($node, $id, 'error'), 'the source of the backfill is not ready: a row in table "credential"', 'and says what is missing');
is(calls('checked'), 0, 'before the first call');
sql("INSERT INTO credential VALUES ('x'); SELECT backfill_resume($id)");
ended($id, 'completed', 'when it is there, the run goes on');

# --- Whose function it is -------------------------------------------------------

create_source('stolen', '');
define_source('stolen', '');
sql('CREATE ROLE thief; ALTER FUNCTION stolen(jsonb, backfill_fetch) OWNER TO thief');
$id = start_run($node, 'flaky');
ended($id, 'completed', 'another run is not concerned');
like(refusal("SELECT backfill_start('stolen')"), qr/a source of the backfill has another owner: function public\.stolen/,
	'a function that has become somebody else\'s is not called');

# --- Rows that fail, and limits ---------------------------------------------------

create_source('spoilt', q{IF p = 2 THEN records := jsonb_set(records, '{6,name}', '"bad"'); END IF;
	IF p = 3 THEN records := jsonb_set(records, '{0,id}', '"no number"'); END IF;});
define_source('spoilt', ', "on_error": "skip"');
$id = start_run($node, 'spoilt');
ended($id, 'completed', 'records that fail are skipped');
is(sql("SELECT string_agg(key::text || ' ' || sqlstate, ' ' ORDER BY number) FROM backfill_errors WHERE run_id = $id"),
	'{2,7} 23514 {3,1} 22P02', 'and known by the token of their page, and their place in it');
is(done(), '28|1', 'the others are applied once');
sql("ALTER TABLE t DROP CONSTRAINT t_name_check; SELECT backfill_retry($id)");
ended($id, 'completed', 'a retry takes them up again');
is(done(), '29|1', 'from the page that was kept');
is(calls('spoilt'), 3, 'without another call');
is(sql("SELECT count(*) FROM backfill.page WHERE run_id = $id"), 1, 'that of the record that still fails');

create_source('limited', '');
define_source('limited', ', "rate_limit": "8 per 500 ms"');
$id = start_run($node, 'limited');
ended($id, 'completed', 'a page of more records than the limit leaves is divided');
is(done(), $all, 'and applied once');
is(sql("SELECT bool_and(n <= 8) FROM (SELECT (SELECT sum(b.rows_affected) FROM backfill_batches b WHERE b.run_id = a.run_id
		AND b.finished_at > a.finished_at - interval '500 ms' AND b.finished_at <= a.finished_at) AS n
	FROM backfill_batches a WHERE run_id = $id AND status = 'completed') w"), 't', 'within the limit');

# --- Order, and what is fetched ahead ---------------------------------------------

create_source('ahead', '', pages => 8);
sql('CREATE TABLE applied_pages (n int GENERATED ALWAYS AS IDENTITY, page int)');
define_source('ahead', ', "workers": 2, "prefetch": 2',
	statement => q{WITH gate AS MATERIALIZED (SELECT pg_advisory_xact_lock(8))
		INSERT INTO applied_pages (page) SELECT (SELECT min(id) FROM batch) / 100 FROM gate;
		INSERT INTO t SELECT id, name, 1 FROM batch ON CONFLICT (id) DO UPDATE SET applied = t.applied + 1});
my $lock = session($node);
$lock->query('SELECT pg_advisory_lock(8)');
$id = sql("SELECT backfill_start('ahead', settings => '{\"lock_timeout\": \"off\"}')");
ok(wait_for($node, "SELECT count(*) = 3 FROM backfill.page WHERE run_id = $id"), 'while a page is applied, two are fetched');
is(calls('ahead'), 3, 'and no more');
$lock->quit;
ended($id, 'completed', 'then the others');
is(sql('SELECT string_agg(page::text, \' \' ORDER BY n) FROM applied_pages'), '1 2 3 4 5 6 7 8', 'in their order');
is(done(), '80|1', 'once');

# --- The target changes -----------------------------------------------------------

create_source('changed', 'IF p = 2 THEN PERFORM pg_advisory_xact_lock(7); END IF;');
define_source('changed', '', statement => 'INSERT INTO t (id, name, applied) SELECT id, name, 1 FROM batch');
$lock = session($node);
$lock->query('SELECT pg_advisory_lock(7)');
$id = start_run($node, 'changed');
ok(wait_for($node, "SELECT batches = 1 FROM backfill_runs WHERE id = $id"), 'the first page is applied');
sql('ALTER TABLE t ADD COLUMN more int DEFAULT 5');
$lock->quit;
ended($id, 'completed', 'a column that is added meanwhile does not disturb');
is(done(), $all, 'and every page is applied');

# --- Held by hand -------------------------------------------------------------------

create_source('held', 'PERFORM pg_sleep(0.05);', pages => 40);
define_source('held', '');
$id = start_run($node, 'held');
ok(wait_for($node, "SELECT batches >= 2 FROM backfill_runs WHERE id = $id"), 'a run is under way');
sql("SELECT backfill_pause($id)");
ended($id, 'paused', 'it can be paused');
sql("SELECT backfill_resume($id)");
ok(wait_for($node, "SELECT batches >= 5 FROM backfill_runs WHERE id = $id"), 'and resumed');
sql("SELECT backfill_stop($id, true)");
ended($id, 'stopped', 'and stopped');
sql("SELECT backfill_resume($id)");
ended($id, 'completed', 'and resumed once more');
is(done(), '400|1', 'and each page is applied once');
sql("SELECT backfill_delete($id)");
is(sql("SELECT count(*) FROM backfill.page WHERE run_id = $id"), 0, 'nothing is left of a run that is deleted');

done_testing();
