# Hooks are kept by name: a function that is renamed is not followed, one that
# comes in its place is called if it is of the same owner, and of nobody else.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Hooks;
use BackfillTest::OneNode;
use Test::More;

hooks_node();
make_v();
sql(q{CREATE SCHEMA shared; GRANT ALL ON SCHEMA shared TO PUBLIC});
my $body = q{BEGIN INSERT INTO log (label, e) VALUES ('%s', e); END};
sub has_hook
{
	my ($role, $label) = @_;
	return hook_function('shared."A hook"', sprintf($body, $label), role => $role);
}
sub called
{
	my ($expected, $what) = @_;
	sql('TRUNCATE log; UPDATE v SET n = 0');
	my $id = start();
	ok(settles($id, 'completed'), "$what: the run is completed");
	return is(sql('SELECT string_agg(label, $$,$$) FROM log'), $expected, $what);
}
sub refused
{
	my ($state, $what) = @_;
	sql('TRUNCATE log; UPDATE v SET n = 0');
	my $id = start();
	ok(settles($id, 'failed'), "$what: the run fails");
	is(value($id, 'sqlstate'), $state, "$what: with this error");
	is(sql('SELECT count(*) FROM log'), '0', "$what: nothing was called");
	return sql("SELECT backfill_delete($id)");
}

has_hook('alice', 'first');
as('alice', q{SELECT backfill_on('before run completed', 'shared."A hook"', 'v')});
is(sql('SELECT hook FROM backfill_hooks'), 'shared."A hook"', 'the view has the qualified name');
called('first', 'a hook is called');
as('alice', q{DROP FUNCTION shared."A hook"});
has_hook('alice', 'second');
called('second', 'one of its owner that comes in its place is called');

# Whoever may create something in that schema.
as('alice', q{DROP FUNCTION shared."A hook"});
refused('42883', 'a hook that was dropped');
has_hook('bob', 'bob was here');
refused('42501', 'a function of somebody else in its place');
sql(q{ALTER FUNCTION shared."A hook"(backfill_event) OWNER TO carol});
called('bob was here', 'one of a role that may act as the owner of the run is called');
sql(q{ALTER SCHEMA shared RENAME TO elsewhere});
refused('42883', 'a function whose schema was renamed');
sql(q{CREATE SCHEMA shared; GRANT ALL ON SCHEMA shared TO PUBLIC});
has_hook('bob', 'bob was here');
refused('42501', 'a function of somebody else in a schema of that name');
as('bob', q{DROP FUNCTION shared."A hook"; CREATE FUNCTION shared."A hook"(e backfill_event) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1'});
refused('42883', 'a function that can be no hook');
as('bob', 'DROP FUNCTION shared."A hook"');

# A worker that knows the function looks again each time.
drop_hooks();
has_hook('alice', 'batch');
as('alice', q{SELECT backfill_on('before batch completed', 'shared."A hook"', 'v')});
sql(q{TRUNCATE log; UPDATE v SET n = 0; INSERT INTO behave VALUES (150, 'gate')});
my $id = start();
ok(at_gate($id, 2), 'a run has called its hook once');
as('alice', 'DROP FUNCTION shared."A hook"');
has_hook('bob', 'bob was here');
sql('DELETE FROM behave');
ok(settles($id, 'failed'), 'what comes in its place meanwhile is refused');
is(value($id, 'sqlstate') . sql('SELECT string_agg(label, $$,$$) FROM log'), '42501batch', 'and not called');

# A hook is taken away by name, whether or not it is there.
as('bob', 'DROP FUNCTION shared."A hook"');
is(state_of('alice', q{SELECT backfill_off('before batch completed', 'A hook', 'v')}), '42602', 'a name is written as in SQL');
is(state_of('alice', q{SELECT backfill_off('before batch completed', '"A hook"', 'v')}), '42704', 'a schema that is not in the path is to be named');
is(state_of('bob', q{SELECT backfill_off('before batch completed', 'shared."A hook"', 'v')}), '42501', 'by those who may replace the definition');
as('alice', q{SET search_path = public, shared; SELECT backfill_off('before batch completed', '"A hook"', 'v')});
is(sql('SELECT count(*) FROM backfill_hooks'), '0', 'the search_path finds it');
resumes($id, 'a hook that is gone');

$node->stop;
done_testing();
