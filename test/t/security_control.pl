# Security: who sees a run and its data, who may control it, and that the
# tables behind the views are nobody's.

use strict;
use warnings;

use BackfillTest::Security;
use Test::More;

security_node();

# ---------------------------------------------------------------------------
note 'who sees and controls what';

as('alice', q{
	CREATE TABLE secret(id int PRIMARY KEY, v text);
	INSERT INTO secret VALUES (1, 'pass-4711');
	CREATE FUNCTION alice.spill(v text) RETURNS text LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'bad value %', v USING DETAIL = v, HINT = v; END $$;
	SELECT backfill_define('spill', 'secret', 'UPDATE batch SET v = alice.spill(v)');
	SELECT backfill_start('spill')});
is(outcome('spill'), 'failed: bad value pass-4711', 'a run that fails with data in its message');
as('alice', q{
	SELECT backfill_define('slow', 'secret', 'UPDATE batch SET v = v FROM pg_sleep(600)');
	SELECT backfill_start('slow')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM backfill_workers WHERE state = 'running'});
my $slow = $node->safe_psql('postgres', q{SELECT id FROM backfill_runs WHERE name = 'slow'});
my $spill = $node->safe_psql('postgres', q{SELECT id FROM backfill_runs WHERE name = 'spill'});

my $sees = q{SELECT (SELECT count(*) > 0 FROM backfill_definitions WHERE owner = 'alice'::regrole),
	(SELECT count(*) > 0 FROM backfill_runs WHERE owner = 'alice'::regrole),
	(SELECT count(*) > 0 FROM backfill_batches),
	(SELECT count(*) > 0 FROM backfill_workers),
	(SELECT string_agg(concat_ws(',', error, error_detail, error_hint), '') FROM backfill_runs WHERE name = 'spill'),
	(SELECT string_agg(error, '') FROM backfill_batches WHERE run_id = };
my $all = "t|t|t|t|bad value pass-4711,pass-4711\nThe batch is the row with the key (1).,pass-4711|bad value pass-4711";
is(as('alice', "$sees $spill)"), $all, 'the owner sees everything of hers');
is(as('carol', "$sees $spill)"), $all, 'so does a member');
is(as('mon', "$sees $spill)"), $all, 'so does pg_monitor');
is(as('bob', "$sees $spill)"), 'f|f|f|f||', 'another role sees nothing');
is(as('dora', "$sees $spill)"), 'f|f|f|f||', 'nor does a member that does not inherit');
is(as('dora', "SET ROLE alice; $sees $spill)"), $all, 'until she sets the role');
is( as('bob', q{SELECT count(*) FROM pg_stat_activity
				 WHERE query ~ 'pg_sleep\(600' AND pid <> pg_backend_pid()}),
	'0', 'the statement does not show in the activity that others see');
is( as('bob', q{SELECT count(*) FROM pg_stat_activity a
				 WHERE a::text ~ 'slow' AND pid <> pg_backend_pid()}),
	'0', 'nor does the name of the definition, in whatever column');
is( as('mon', q{SELECT application_name LIKE 'backfill run %', query ~ 'pg_sleep\(600', usename
				  FROM pg_stat_activity WHERE backend_type = 'backfill worker'}),
	't|t|alice', 'it does in the one that pg_monitor sees');

# Every control function, for everybody who may not.
my %controls = (
	"backfill_stop($slow)" => qr/42704.*run $slow does not exist/,
	"backfill_stop($slow, true)" => qr/42704/,
	"backfill_pause($slow)" => qr/42704/,
	"backfill_resume($spill)" => qr/42704/,
	"backfill_alter($slow, '{\"workers\": 2}')" => qr/42704/,
	"backfill_delete($spill)" => qr/42704/,
	"backfill_stop('slow')" => qr/42704.*there is no backfill definition "slow"/,
	"backfill_stop('slwo')" => qr/42704.*HINT:  The view backfill_runs/s,
	"backfill_stop('$slow')" => qr/42704.*run $slow does not exist/,
	"backfill_pause('slow')" => qr/42704/,
	"backfill_resume('spill')" => qr/42704/,
	"backfill_retry('spill')" => qr/42704/,
	"backfill_verify('spill')" => qr/42704/,
	"backfill_alter('slow', finish => 'SELECT 1')" => qr/42704/,
	"backfill_delete('spill')" => qr/42704/,
	"backfill_start('slow')" => qr/42501.*permission denied for backfill definition slow/,
	"backfill_drop('slow')" => qr/42501/,
	"backfill_define('slow', 'witness', 'SELECT 1 FROM batch')" => qr/42501/);
# but for the time that its worker takes, which the scheduler puts down now and then
my $everything = q{SELECT (SELECT jsonb_agg(d) FROM backfill.definition d),
	(SELECT jsonb_agg(to_jsonb(r) - 'worker_times' ORDER BY id) FROM backfill.run r)};
my $before = $node->safe_psql('postgres', $everything);
for my $role ('bob', 'mon', 'dora')
{
	for my $call (sort keys %controls)
	{
		like(refused($role, "SELECT $call"), $controls{$call}, "$role may not $call");
	}
	is(as($role, 'SELECT count(*) FROM backfill_stop_all(true)'), '0', "backfill_stop_all of $role stops nothing");
}
like(refused('bob', "CALL backfill_wait($slow, '1 ms')"), qr/42704.*does not exist/,
	'another role cannot wait for the run');
like(refused('bob', "CALL backfill_wait('slow', '1 ms')"), qr/42704/, 'by its name neither');
like(refused('mon', "CALL backfill_wait('slow', '1 ms')"), qr/UB003.*timed out/, 'pg_monitor can by its name, too');
like(refused('mon', "CALL backfill_wait($slow, '1 ms')"), qr/UB003.*timed out/,
	'pg_monitor can');
is($node->safe_psql('postgres', $everything), $before, 'none of that changed anything');

like(as('carol', "SELECT backfill_stop($slow, true)"), qr/^run $slow of \S+ on \S+: stops now/, 'a member stops the run');
is(outcome('slow'), 'stopped', 'the run is stopped');
like(as('carol', "SELECT backfill_delete($slow)"), qr/^run $slow of \S+ on \S+ is deleted$/, 'a member deletes the run');
as('carol', q{SELECT backfill_define('slow', 'alice.secret', 'UPDATE batch SET v = session_user')});
as('carol', q{SELECT backfill_start('slow')});
is(outcome('slow'), 'completed', 'a member replaces the definition and starts it');
is(as('alice', 'SELECT v FROM secret'), 'alice', 'it still runs as the owner');

# ---------------------------------------------------------------------------
note 'the tables';

my $rights = $node->safe_psql('postgres', q{
	SELECT string_agg(c.relname, ', ') FROM pg_class c
	 WHERE relnamespace = 'backfill'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
	   AND has_table_privilege('bob', c.oid,
			'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')});
is($rights, '', 'PUBLIC has no right on anything in the schema backfill');
is( $node->safe_psql('postgres', q{
	SELECT count(*), bool_or(CASE relkind WHEN 'S'
			THEN has_sequence_privilege('bob', c.oid, 'USAGE, SELECT, UPDATE') END)
	  FROM pg_class c
	 WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'S'}),
	'5|f', 'nor on its sequences');
is( $node->safe_psql('postgres', q{SELECT has_schema_privilege('bob', 'backfill', 'USAGE, CREATE')}),
	'f', 'nor on the schema itself');
for my $table ('definition', 'run', 'batch', 'error', 'event', 'hook')
{
	for my $sql ("SELECT * FROM backfill.$table", "DELETE FROM backfill.$table",
		"CREATE TRIGGER t BEFORE INSERT ON backfill.$table FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE RULE r AS ON INSERT TO backfill.$table DO INSTEAD NOTHING",
		"BEGIN; LOCK TABLE backfill.$table", "ALTER TABLE backfill.$table DISABLE ROW LEVEL SECURITY")
	{
		like(refused('bob', $sql), qr/42501/, "refused: $sql");
	}
}
my @functions = split /\n/, $node->safe_psql('postgres', q{
	SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace ORDER BY 1});
cmp_ok(scalar(@functions), '>=', 4, 'the schema has functions of its own');
for my $function (@functions)
{
	(my $call = $function) =~ s/\(.*//;
	my $arguments = $function =~ /\((.+)\)/ ? join(', ', ('NULL') x split(/,/, $1)) : '';

	like(refused('bob', "SELECT $call($arguments)"),
		qr/42501.*permission denied for (schema|function)/, "bob cannot call $function");
}
is( $node->safe_psql('postgres', q{
	SELECT string_agg(c.relname, ', ') FROM pg_class c
	 WHERE c.relname LIKE 'backfill\_%' AND relkind = 'v' AND relnamespace = 'public'::regnamespace
	   AND has_table_privilege('bob', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER, REFERENCES')}),
	'', 'the views are for reading');

$node->stop;
done_testing();
