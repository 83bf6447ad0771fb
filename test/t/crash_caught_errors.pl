# Errors that are caught inside of a statement: in a function that the planner
# evaluates, in a cursor that is left open, in a rehearsal within the statement.
# The server stays up, and of the batch just the row that raises is left out.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::OneNode;
use PostgreSQL::Test::Utils;
use Test::More;

one_node('main', conf => "backfill.max_workers = 4\n");

sql(q{
	-- memory that is freed is soon full of something else
	DO $do$
	DECLARE
		body text := '';
	BEGIN
		FOR i IN 1..300 LOOP
			body := body || format('PERFORM %L FROM generate_series(1, 1);', repeat('A', 20 + i * 3));
		END LOOP;
		EXECUTE 'CREATE FUNCTION spray() RETURNS void LANGUAGE plpgsql AS $x$ BEGIN ' || body || ' END $x$';
	END $do$;

	CREATE FUNCTION caught_query() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	DECLARE
		r int;
	BEGIN
		BEGIN
			SELECT 1 / x INTO r FROM generate_series(0, 0) x;
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		RETURN 1;
	END $$;
	CREATE FUNCTION caught_cursor() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	DECLARE
		c refcursor;
		r int;
	BEGIN
		BEGIN
			OPEN c FOR SELECT 1 / x FROM generate_series(0, 0) x;
			FETCH c INTO r;
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		RETURN 1;
	END $$;

	CREATE TABLE inner_t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
	INSERT INTO inner_t (id) SELECT generate_series(1, 100);
	CREATE FUNCTION inner_fails(key int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 30 THEN
			RAISE EXCEPTION 'inner';
		END IF;
		RETURN 1;
	END $$;
	CREATE FUNCTION caught_rehearsal() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN
			PERFORM backfill_explain('inner', NULL, true);
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		RETURN 1;
	END $$;

	-- a message asks how far the statement got, and so does the error
	CREATE FUNCTION later(key bigint, how text) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF key = 10 THEN
			IF how = 'rehearsal' THEN
				PERFORM caught_rehearsal();
			END IF;
			PERFORM spray();
		END IF;
		RAISE WARNING 'later';
		RETURN 1 + 0 / (key - 500);
	END $$;
	SELECT backfill_define('inner', 'inner_t', 'UPDATE batch SET n = inner_fails(id)', settings => '{"batch_size": 100}')});

my %added = (
	query => 'caught_query() - 1', cursor => 'caught_cursor() - 1', rehearsal => '0');
foreach my $how ('query', 'cursor', 'rehearsal')
{
	my $rows = 100;

	note "a caught $how";
	create_target($node, $how, $rows);
	define_increment($node, $how, '{"batch_size": 100, "target_batch_time": 0, "on_error": "skip", "max_error_rate": 1, "workers": 1}',
		statement => "UPDATE batch SET n = n + later(id, '$how') + $added{$how}");
	my $id = start_run($node, $how);
	ok(wait_for_status($node, $id, 'completed'), 'the run completes');
	is(sql("SELECT key, sqlstate FROM backfill_errors WHERE run_id = $id"), '{500}|22012', 'the row that raises is left out');
	is(sql("SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n = 0 AND id = 500) FROM $how"), '99|1', 'all others are done, once');
	is(sql("SELECT max(part) FROM backfill_batches WHERE run_id = $id"), '2', 'it was found at once: how far the statement got is known');
	is(sql("SELECT max(crashes) FROM backfill_batches WHERE run_id = $id"), '0', 'and nothing went down');
}
unlike(slurp_file($node->logfile), qr/terminated by signal|was terminated by/, 'the server stayed up');

$node->stop;
done_testing();
