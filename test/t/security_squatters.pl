# What was declared for a definition of one owner does not go to another's of the
# same name: followers, schedules, hooks.  And definitions that are made at the
# same moment do not lead to each other.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use Test::More;

one_node('main');
sql(q{CREATE ROLE alice LOGIN SUPERUSER}, q{CREATE ROLE bob LOGIN}, q{CREATE ROLE victim LOGIN},
	q{CREATE ROLE member LOGIN IN ROLE victim}, q{GRANT CREATE ON SCHEMA public TO PUBLIC});

sub make_table
{
	my ($role, $name) = @_;
	as($role, "CREATE TABLE $name (id int PRIMARY KEY, n int NOT NULL DEFAULT 0); INSERT INTO $name VALUES (1)");
	return;
}
sub completes
{
	my ($role, $start, $name) = @_;
	my $id = as($role, "SELECT $start");
	ok(settles($id, 'completed'), $name);
	return $id;
}
sub said { return sql("SELECT coalesce(max(reason), '') FROM backfill_events WHERE run_id = $_[0] AND kind = 'followers'"); }

# ---------------------------------------------------------------------------
note 'followers';

make_table('alice', 'first');
make_table('bob', 'taken');
my $followers = q{[{"name": "later", "parameters": {"secret": {"from": "params.secret"}}, "settings": {"share_target": true}}]};
as('alice', qq{SELECT backfill_define('first', 'first', 'UPDATE batch SET n = n + 1',
	parameters => '{"secret": "text"}', followers => '$followers')});
is(sql(q{SELECT followers -> 0 ->> 'owner' FROM backfill_definitions WHERE name = 'first'}), 'alice',
	'a follower that is not there is that of whoever declares it');
as('bob', q{SELECT backfill_define('later', 'taken', 'UPDATE batch SET n = n + 1', parameters => '{"secret": "text"}')});
my $start = q{backfill_start('first', parameters => '{"secret": "xyzzy"}')};
my $id = completes('alice', $start, 'a run whose follower was taken by another role');
like(said($id), qr/^"later" could not be started: backfill definition later does not belong to role "alice"/, 'it is not started, and the run says so');
is(as('bob', q{SELECT count(*) FROM backfill_runs WHERE parameters::text LIKE '%xyzzy%'}), '0', 'the other role sees no parameters');

as('alice', qq{SELECT backfill_define('first', 'first', 'UPDATE batch SET n = n + 1',
	parameters => '{"secret": "text"}', followers => '$followers')});
$id = completes('alice', $start, 'declared again, a follower of another role is meant');
like(said($id), qr/^run \d+ of "later" follows/, 'and is started');
as('victim', q{CREATE TABLE own (id int PRIMARY KEY)});
as('victim', qq{SELECT backfill_define('curious', 'own', 'DELETE FROM batch', parameters => '{"secret": "text"}', followers => '$followers')});
is(as('victim', q{SELECT followers -> 0 ->> 'owner' FROM backfill_definitions WHERE name = 'curious'}), 'victim', 'whose rights one does not have is not meant, nor named');
as('bob', q{SELECT backfill_drop('later')}) if as('bob', q{SELECT count(*) FROM backfill_runs WHERE name = 'later'}) == 1
	&& wait_for($node, q{SELECT status = 'completed' FROM backfill_runs WHERE name = 'later'});
as('victim', q{CREATE TABLE theirs (id int PRIMARY KEY, n int)});
as('victim', q{SELECT backfill_define('later', 'theirs', 'UPDATE batch SET n = n + 1', parameters => '{"secret": "text"}')});
$id = completes('alice', $start, 'a third role has taken the name');
like(said($id), qr/^"later" could not be started: .*"bob"/, 'it is bound to the owner that it had');
is(state_of('alice', qq{SELECT backfill_define('x', 'first', 'DELETE FROM batch', followers => '[{"name": "later", "owner": "nobody_at_all"}]')}), '42704', 'an owner that is written must exist');
is(state_of('alice', qq{SELECT backfill_define('x', 'first', 'DELETE FROM batch', followers => '[{"name": "later", "owner": 1}]')}), '22023', 'and be a name');

# ---------------------------------------------------------------------------
note 'schedule';

is(state_of('alice', q{SELECT backfill_start_scheduled('later', '{"secret": "xyzzy"}', NULL, 'alice')}), '42501',
	'what a schedule starts is of the owner that the definition had');
like(as('alice', q{SELECT backfill_start_scheduled('later', '{"secret": "x"}', '{"share_target": true}', 'victim')}), qr/^\d+$/, 'the right one is started');

# ---------------------------------------------------------------------------
note 'hooks';

make_table('victim', 'hooked');
as('victim', q{SELECT backfill_define('hooked', 'hooked', 'UPDATE batch SET n = n + 1')});
as('member', q{CREATE TABLE loot (who text); GRANT INSERT ON loot TO PUBLIC});
as('member', q{CREATE FUNCTION kept(e backfill_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO loot VALUES (current_user); END $$});
as('member', q{SELECT backfill_on('after run completed', 'kept', 'hooked')});
completes('victim', q{backfill_start('hooked')}, 'a run with a hook of a member');
ok(wait_for($node, 'SELECT count(*) = 1 FROM loot'), 'which is called');
sql('REVOKE victim FROM member');
$id = completes('victim', q{backfill_start('hooked')}, 'a run with a hook of a former member');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook' AND sqlstate = '42501' AND reason ~ 'was added by role \"member\", which may not add it any more'"), 'says that it may not be called');
is(sql('SELECT count(*) FROM loot'), '1', 'and it is not');
as('victim', q{SELECT backfill_off('after run completed', 'kept', 'hooked')});
as('victim', q{SELECT backfill_on('after run completed', 'kept', 'hooked')});
completes('victim', q{backfill_start('hooked')}, 'added again, by the owner');
ok(wait_for($node, 'SELECT count(*) = 2 FROM loot'), 'it is called');
as('alice', q{SELECT backfill_on('after run completed', 'kept')});
sql('ALTER ROLE alice NOSUPERUSER');
$id = completes('victim', q{backfill_start('hooked')}, 'a hook for all runs, of a former superuser');
ok(wait_for($node, "SELECT count(*) = 1 FROM backfill_events WHERE run_id = $id AND kind = 'hook' AND reason ~ 'added by role \"alice\"'"), 'is not called either');
sql('ALTER ROLE alice SUPERUSER', q{SELECT backfill_off('after run completed', 'kept')});

# ---------------------------------------------------------------------------
note 'cycles';

sub define_cycle
{
	my ($from, $to) = @_;
	return qq{SELECT backfill_define('$from', 'first', 'UPDATE batch SET n = n', followers => '[{"name": "$to", "settings": {"share_target": true}}]', settings => '{"share_target": true}')};
}
my $one = session($node);
my $two = session($node);
$one->query('BEGIN; ' . define_cycle('chicken', 'egg'));
$two->send('BEGIN; ' . define_cycle('egg', 'chicken'));
ok(wait_for($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 82 AND NOT granted}),
	'the second of two definitions waits for the first');
$one->query('COMMIT');
like($two->query('COMMIT'), qr/leads back to it/, 'and sees that it leads back');
is(sql(q{SELECT string_agg(name, ' ') FROM backfill_definitions WHERE name IN ('chicken', 'egg')}), 'chicken', 'there is no cycle');
$one->quit;
$two->quit;

# Of two owners, they are told apart when the run follows.
sql(q{INSERT INTO backfill.definition (name, owner, target, statement, settings, search_path, parameters, followers)
	SELECT 'egg', 'victim', 'hooked', 'UPDATE batch SET n = n', '{"share_target": true}', search_path, '{}', '[{"name": "chicken", "owner": "postgres"}]'
	  FROM backfill.definition WHERE name = 'chicken'});
sql(q{UPDATE backfill.definition SET followers = '[{"name": "egg", "owner": "victim"}]' WHERE name = 'chicken'});
$id = completes('alice', q{backfill_start('chicken')}, 'a run in a cycle');
like(said($id), qr/leads back to "chicken"/, 'is not followed');
$node->stop;
done_testing();
