# What the tests of security have in common: who is there, a witness that
# tells as whom it runs, and questions to ask of a run that has ended.
#
# The installation is a superuser's; alice owns definitions, bob wants what is
# hers, carol and dora are members of alice, mon of pg_monitor.

package BackfillTest::Security;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use Test::More;

our @EXPORT = qw(
  $node $super $witness security_node
  as refused outcome books_balance witnessed
);

our ($node, $super);

# The witness: a table that everybody may write, and a function that writes
# down as whom it runs.
our $witness = <<'EOS';
CREATE TABLE witness(what text, curr text, sess text, super text, outcome text);
GRANT SELECT, INSERT ON witness TO PUBLIC;
CREATE SCHEMA spy;
CREATE FUNCTION spy.note(what text, outcome text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
	INSERT INTO public.witness
	VALUES (what, current_user, session_user, current_setting('is_superuser'), outcome);
END $$;
GRANT USAGE ON SCHEMA spy TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
EOS

# The cluster, which is one without anything that the tests of other things need.
sub security_node
{
	$node = PostgreSQL::Test::Cluster->new('security');
	$node->init;
	$node->append_conf('postgresql.conf', <<'EOC');
shared_preload_libraries = 'backfill'
max_worker_processes = 16
log_statement = none
restart_after_crash = on
EOC
	$node->start;
	$super = $node->safe_psql('postgres', 'SELECT current_user');
	$node->safe_psql('postgres', <<"EOS");
CREATE ROLE alice LOGIN;
CREATE ROLE bob LOGIN;
CREATE ROLE carol LOGIN;
CREATE ROLE dora LOGIN NOINHERIT;
CREATE ROLE mon LOGIN;
CREATE ROLE staff;
GRANT alice TO carol, dora;
GRANT pg_monitor TO mon;
GRANT staff TO alice;
CREATE EXTENSION backfill;
$witness
CREATE SCHEMA alice AUTHORIZATION alice;
CREATE SCHEMA bob AUTHORIZATION bob;
EOS
	return;
}

# What a query of a role gives; dies on an error.
sub as
{
	my ($role, $sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql, extra_params => [ '-U', $role ]);
}

# The error that a command of a role gives, or '' if there is none.
sub refused
{
	my ($role, $sql, $db) = @_;
	my ($rc, $out, $err) = $node->psql($db // 'postgres', "\\set VERBOSITY verbose\n$sql",
		extra_params => [ '-U', $role ]);
	return $rc == 0 ? '' : $err;
}

# The last run of a definition, once it has ended: status and error.
sub outcome
{
	my ($name, $db) = @_;
	$db //= 'postgres';
	$node->poll_query_until($db, qq{
		SELECT status IN ('completed', 'failed', 'stopped')
		  FROM backfill_runs WHERE name = '$name' ORDER BY id DESC LIMIT 1})
	  or die "run of $name does not end";
	return $node->safe_psql($db,
		qq{SELECT concat_ws(': ', status, error)
			 FROM backfill_runs WHERE name = '$name' ORDER BY id DESC LIMIT 1});
}

# Whether the numbers of a definition's last run are those of its batches.
sub books_balance
{
	my ($name, $rows, $what, $db) = @_;
	is( $node->safe_psql($db // 'postgres', qq{
		SELECT r.status, r.rows_scanned, r.rows_affected, r.batches = count(*),
			   r.rows_affected = sum(b.rows_affected), bool_and(b.status = 'completed')
		  FROM backfill_runs r JOIN backfill_batches b ON b.run_id = r.id
		 WHERE r.id = (SELECT max(id) FROM backfill_runs WHERE name = '$name')
		 GROUP BY r.id, r.status, r.rows_scanned, r.rows_affected, r.batches}),
		"completed|$rows|$rows|t|t|t", $what);
}

# Whom the witness saw at this since the last question.
sub witnessed
{
	my ($what, $db) = @_;
	return $node->safe_psql($db // 'postgres',
		qq{WITH gone AS (DELETE FROM witness WHERE what LIKE '$what' RETURNING *)
		   SELECT DISTINCT curr, sess, super FROM gone ORDER BY 1, 2, 3});
}

1;
