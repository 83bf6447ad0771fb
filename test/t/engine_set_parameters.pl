# The setting "set": server parameters for the statement and the scope, with the
# owner's rights, from the next batch when they are altered; not for hooks, the
# probe and our own bookkeeping, and gone when the statement is done.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Finish;
use BackfillTest::OneNode;
use PostgreSQL::Test::Utils;
use Test::More;

one_node('main', conf => "shared_preload_libraries = 'backfill, auto_explain'\njit = on\n");
create_target($node, 't', $rows);

# Who sees what: a row for each place that was ever asked.
sql(q{CREATE TABLE seen (place text, parameters text, UNIQUE (place, parameters));
	GRANT ALL ON seen TO PUBLIC;
	CREATE FUNCTION look(place text) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES (place, concat_ws(' ', current_setting('work_mem'), current_setting('jit'), current_setting('session_replication_role')))
		ON CONFLICT DO NOTHING;
		RETURN 1;
	END $$;
	CREATE FUNCTION book() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.look('book'); RETURN NULL; END $$;
	CREATE TRIGGER book AFTER INSERT OR UPDATE ON backfill.run FOR EACH ROW EXECUTE FUNCTION book();
	CREATE TRIGGER book AFTER INSERT OR UPDATE ON backfill.batch FOR EACH ROW EXECUTE FUNCTION book();
	CREATE TRIGGER book AFTER INSERT OR UPDATE ON backfill.event FOR EACH ROW EXECUTE FUNCTION book();
	CREATE FUNCTION hook(event backfill_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN PERFORM look(event.phase); IF event.phase = 'around' THEN PERFORM backfill_yield(); END IF; END $$});

# What was seen at the place, and forget all of it.
sub seen
{
	my (@places) = @_;
	return join(', ', map { "$_ " . sql("SELECT coalesce(string_agg(parameters, ' and ' ORDER BY parameters), 'nothing') FROM seen WHERE place = '$_'") } @places);
}
sub forget { return sql('TRUNCATE seen'); }

my $id;
my $clean = '4MB off origin';

# ---------------------------------------------------------------------------
note 'who sees them';

sql("SET work_mem = '4MB'; SELECT backfill_define('t', 't', 'DELETE FROM batch')",
	map { "SELECT backfill_on('$_', 'hook', 't')" } 'before batch completed', 'around run completed', 'after batch completed', 'after run failed', 'after run completed');
forget();
$id = start('t', statement => q{UPDATE batch SET n = n + look('statement')}, scope => q{look('scope') = 1 AND n = 0 AND current_setting('app.tenant') = 'acme'},
	finish => q{SELECT look('finish')},
	settings => q{"sleep": 0, "verify": true, "probe": "SELECT nullif(current_setting(''work_mem''), ''4MB'')", "set": {"work_mem": 78848, "jit": true, "app.tenant": "acme", "session_replication_role": "replica", "enable_indexscan": "off", "enable_indexonlyscan": "off", "plan_cache_mode": "force_custom_plan"}});
ok(wait_for_status($node, $id, 'completed'), 'a run with parameters of its own');
check_exactly_once($node, $id, 't', $rows, 'exactly once');
is(seen('statement', 'scope', 'finish'), 'statement 77MB on replica, scope 77MB on replica, finish 77MB on replica', 'the statement, the scope and "finish" see them');
is(seen('book'), 'book ' . sql("SELECT string_agg(p, ' and ' ORDER BY p) FROM (VALUES ('$clean'), ('4MB on origin')) v(p)"), 'what we write ourselves does not, in workers or the session of the caller');
is(seen('before', 'around', 'after'), "before $clean, around $clean, after $clean", 'nor do hooks, nor the probe, which would hold the run');
is(sql("SELECT backfill_verify($id)"), 0, 'backfill_verify, whose scope needs one of them');
is(sql(q{SELECT current_setting('work_mem') || current_setting('jit')}), '4MBon', 'a session has its own');

# ---------------------------------------------------------------------------
note 'explain and preview';

sql('UPDATE t SET n = 0');
sql(q{SELECT backfill_define('shown', 't', $$UPDATE batch SET pad = concat_ws(' ', current_setting('work_mem'), current_setting('app.tenant'), current_setting('jit'))$$,
	scope => $$current_setting('app.tenant') = 'acme'$$, settings => '{"set": {"work_mem": "77MB", "app.tenant": "acme", "jit": "on", "enable_indexscan": "off", "enable_seqscan": "off", "track_counts": "on"}}')});
is(sql(q{SELECT DISTINCT changed FROM backfill_preview('shown', rows => 5)}), '{"pad": "77MB acme on"}', 'preview');
like(sql(q{SELECT string_agg(l, E'\n') FROM backfill_explain('shown') l}), qr/Update on t .*\n(?:.*\n){0,3}.*Bitmap Heap Scan on t .*Plan of the search.*Index Only Scan/s, 'explain');
like(sql(q{SELECT string_agg(l, E'\n') FROM backfill_explain('shown', measure => true) l}), qr/Update on t .*\n(?:.*\n){0,3}.*Bitmap Heap Scan on t .*Plan of the search.*Index Only Scan/s, 'explain with measure');
like(sql(q{SET work_mem = '5MB'; SELECT count(*) FROM backfill_preview('shown'); SELECT current_setting('work_mem') || current_setting('enable_indexscan')}), qr/5MBon$/, 'the caller has what he had');

# ---------------------------------------------------------------------------
note 'altered';

# one batch, then a long pause
my $pause = '"sleep": "1 day"';
sub one_batch { return wait_for($node, "SELECT count(*) = 1 FROM backfill_batches WHERE run_id = $id AND status = 'completed'"); }
sub log_since { return substr(slurp_file($node->logfile), $_[0]); }

# the plans that are told apart: rows in the order of the key are read along its index
sql('CLUSTER t USING t_pkey');
sql('ANALYZE t');

my $logged = -s $node->logfile;
# the first batch has a plan of its own: its range includes its start
$id = start('t', settings => q{"batch_size": 100, "sleep": "250 ms", "set": {"auto_explain.log_min_duration": 0, "app.tenant": "acme"}});
ok(wait_for($node, "SELECT count(*) >= 2 FROM backfill_batches WHERE run_id = $id AND status = 'completed'"), 'two batches are done');
ok($node->wait_for_log(qr/Update on t/, $logged), 'the plan is logged');
like(log_since($logged), qr/Update on t batch .*\n\s+->  Index Scan/, 'a plan that serves every batch');
like(sql(qq{SELECT backfill_alter($id, '{"sleep": 0, "set": {"auto_explain.log_min_duration": 0, "enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_seqscan": "off"}}')}), qr/set \{.*acme.* -> \{.*off/, 'others are given');
ok(wait_for_status($node, $id, 'completed'), 'the run goes on');
my $log = log_since($logged);
like($log, qr/Update on t batch .*\n\s+->  Bitmap Heap Scan/, 'with other plans');
unlike($log, qr/Update on t batch .*\n\s+->  Bitmap Heap Scan.*Update on t batch [^\n]*\n\s+->  Index Scan/s, 'and no more with the ones it had');
like($log, qr/Query Text: SELECT batch\.id .*\n(?:.*\n)??.*Limit .*\n\s+->  Index Only Scan/, 'our own searches follow the index all the same');
unlike($log, qr/^\tSort|->  Sort/m, 'and nothing is sorted');
check_exactly_once($node, $id, 't', $rows, 'exactly once');

$id = start('t', statement => q{UPDATE batch SET pad = concat_ws(' ', current_setting('work_mem'), current_setting('app.tenant', true))}, settings => qq{$pause, "set": {"work_mem": "77MB", "app.tenant": "acme"}});
ok(one_batch(), 'a batch is done');
sql(qq{SELECT backfill_alter($id, '{"sleep": 0, "set": {"work_mem": "88MB"}}')});
ok(wait_for_status($node, $id, 'completed'), 'the run goes on');
is(sql(q{SELECT id > 3000, string_agg(DISTINCT pad, ',') FROM t GROUP BY 1 ORDER BY 1}), "f|77MB acme\nt|88MB ", 'from the next batch, and none of those before');
$id = start('t', statement => q{UPDATE batch SET pad = current_setting('work_mem')}, settings => qq{$pause, "set": {"work_mem": "77MB"}});
ok(one_batch(), 'a batch is done');
sql(qq{SELECT backfill_alter($id, '{"sleep": 0, "set": null}')});
ok(wait_for_status($node, $id, 'completed'), 'without any');
is(sql(q{SELECT id > 3000, string_agg(DISTINCT pad, ',') FROM t GROUP BY 1 ORDER BY 1}), "f|77MB\nt|4MB", 'those of the server hold again');

# ---------------------------------------------------------------------------
note 'statements that end transactions themselves';

sql('CREATE PROCEDURE commits(place text) LANGUAGE plpgsql AS $$ BEGIN PERFORM look(place); COMMIT; PERFORM look(place); COMMIT; PERFORM look(place); END $$');
forget();
$id = start('t', scope => 'false', finish => q{CALL commits('call'); DO $$ BEGIN PERFORM look('do'); COMMIT; PERFORM look('do'); END $$; SELECT look('then')},
	settings => '"sleep": 0, "set": {"work_mem": "77MB", "jit": "on", "session_replication_role": "replica"}');
ok(wait_for_status($node, $id, 'completed'), 'they are run');
is(seen('call', 'do', 'then'), 'call 77MB on replica, do 77MB on replica, then 77MB on replica', 'and see them after a COMMIT, too');
is(seen('around', 'after'), "around $clean, after $clean", 'the session is as it was');
unlike(seen('book'), qr/77MB|replica/, 'our bookkeeping saw nothing of it');
forget();
$id = start('t', scope => 'false', finish => q{DO $$ BEGIN PERFORM look('do'); COMMIT; PERFORM 1 / 0; END $$},
	settings => '"sleep": 0, "set": {"work_mem": "77MB", "jit": "on", "session_replication_role": "replica"}');
ok(wait_for_status($node, $id, 'failed'), 'one that fails behind a COMMIT');
ok(wait_for($node, q{SELECT count(*) > 0 FROM seen WHERE place = 'after'}), 'a hook is called');
is(seen('do', 'after'), "do 77MB on replica, after $clean", 'the session is as it was');

# ---------------------------------------------------------------------------
note 'triggers';

sql(q{CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.f = NEW.f + 1; RETURN NEW; END $$;
	UPDATE t SET f = 0, n = 0; CREATE TRIGGER bump BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION bump()});
forget();
$id = start('t', settings => '"sleep": 0, "set": {"session_replication_role": "replica"}');
ok(wait_for_status($node, $id, 'completed'), 'session_replication_role of a superuser');
is(sql('SELECT sum(f), min(n), max(n) FROM t'), '0|1|1', 'no trigger fires');
like(seen('book'), qr/\Q$clean\E/, 'but those of our tables do');
sql('DROP TRIGGER bump ON t', q{SELECT backfill_off(concat_ws(' ', phase, object, status), hook, name) FROM backfill_hooks});

# ---------------------------------------------------------------------------
note 'rights';

sql('CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN IN ROLE alice; GRANT CREATE ON SCHEMA public TO alice; CREATE TABLE a (LIKE t INCLUDING ALL); INSERT INTO a SELECT * FROM t; ALTER TABLE a OWNER TO alice');
my $replica = '{"set": {"work_mem": "77MB", "session_replication_role": "replica"}}';
my $define = "SELECT backfill_define('a', 'a', 'UPDATE batch SET n = n + 1', settings =>";
my $denied = qr/ERROR:  42501: permission denied to set parameter "session_replication_role"\nCONTEXT:  parameter "session_replication_role" in backfill setting "set"/;
like(refusal("SET ROLE alice; $define '$replica')"), $denied, 'an owner without the right');
like(refusal("SET ROLE bob; $define '$replica')"), $denied, 'a member of the owner\'s');
sql("SET ROLE alice; $define '{}')");
like(refusal("$define '$replica')"), $denied, 'a superuser who replaces a definition of the owner\'s');
like(refusal("SELECT backfill_start('a', settings => '$replica')"), $denied, 'a superuser who starts it');
$id = sql(q{SET ROLE alice; SELECT backfill_start('a', start_at => now() + '1 day')});
like(refusal("SELECT backfill_alter($id, '$replica')"), $denied, 'a superuser who alters the run');
like(refusal(qq{SET ROLE alice; SELECT backfill_alter($id, '{"set": {"shared_buffers": "1GB"}}')}), qr/ERROR:  55P02: .*"shared_buffers" cannot be changed/, 'what nobody can set');
sql("SELECT backfill_stop($id)");
sql('GRANT SET ON PARAMETER session_replication_role TO alice', "SET ROLE bob; $define '$replica')");
$id = sql(q{SELECT backfill_start('a')});
ok(wait_for_status($node, $id, 'completed'), 'with the right, granted, it runs');
sql('REVOKE SET ON PARAMETER session_replication_role FROM alice');
like(refusal(q{SELECT backfill_start('a')}), $denied, 'without it, the definition is not started any more');
sql('GRANT SET ON PARAMETER session_replication_role TO alice');
$id = sql(qq{SELECT backfill_start('a', settings => '{"batch_size": 300, "target_batch_time": 0, $pause, "on_error": "skip"}')});
ok(one_batch(), 'a batch is done');
sql('REVOKE SET ON PARAMETER session_replication_role FROM alice', qq{SELECT backfill_alter($id, '{"sleep": 0}')});
ok(wait_for_status($node, $id, 'failed'), 'revoked under way, the run fails');
is(value($id, 'sqlstate, error'), '42501|permission denied to set parameter "session_replication_role"', 'with the error');
like(value($id, 'error_context'), qr/parameter "session_replication_role" in backfill setting "set"/, 'that says where');
is(sql("SELECT count(*) FROM backfill_errors WHERE run_id = $id AND sqlstate = '42501'"), 0, 'no row is left out for it');
sql(qq{SET ROLE alice; SELECT backfill_alter($id, '{"set": {"work_mem": "77MB"}}'); SELECT backfill_resume($id)});
ok(wait_for_status($node, $id, 'completed', through_end => 1), 'without the parameter it goes on');
is(sql('SELECT min(n), max(n) FROM a'), '3|3', 'exactly once');

# from 16 on a member need not be one who may become the owner
if ($node->pg_version >= 16)
{
	sql('CREATE ROLE carol LOGIN; GRANT alice TO carol WITH INHERIT TRUE, SET FALSE', q{SET ROLE alice; SELECT backfill_define('a', 'a', 'UPDATE batch SET n = n + 1')});
	my $lent = qr/ERROR:  42501: permission denied to have role "alice" run something else\nDETAIL:  Only roles that may SET ROLE/;
	like(refusal(q{SET ROLE carol; SELECT backfill_start('a', settings => '{"probe": "SELECT 1"}')}), $lent, 'a member without SET ROLE starts a run with a probe');
	like(refusal(q{SET ROLE carol; SELECT backfill_start('a', settings => '{"set": {"work_mem": "8MB"}}')}), $lent, 'or with "set"');
	$id = sql(q{SET ROLE carol; SELECT backfill_start('a', start_at => now() + '1 day')});
	like(refusal("SET ROLE carol; SELECT backfill_alter($id, $_)"), $lent, "or alters it: $_") foreach q('{"set": {"work_mem": "8MB"}}'), q(finish => 'SELECT 1'), q('{"probe": "SELECT 1"}');
	like(sql(qq{SET ROLE carol; SELECT backfill_alter($id, '{"sleep": 0, "set": null}'); SELECT backfill_stop($id)}), qr/sleep default -> 0/, 'the pace is for any member');
}

$node->stop;
done_testing();
