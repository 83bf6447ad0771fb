# Health: replication slots that keep WAL or are about to be lost, and WAL
# that is not archived, hold a run.

use strict;
use warnings;

use BackfillTest;
use BackfillTest::Health;
use BackfillTest::OneNode;
use PostgreSQL::Test::Utils;
use Test::More;

health_node();

# --- Slots, the archive ------------------------------------------------------

note 'slots, the archive';
alter('{"max_slot_retained": "3MB"}');
holds('a slot left behind', 'max_slot_retained',
	cross => sub { sql(q{SELECT pg_create_physical_replication_slot('left_behind', true); SELECT pg_logical_emit_message(false, 'x', repeat('x', 4000000))}); },
	crossed => q{SELECT pg_current_wal_lsn() - restart_lsn > 3 * 1024 * 1024 FROM pg_replication_slots WHERE slot_name = 'left_behind'},
	reason => q{replication slot "left_behind" keeps \d+ [kM]B of WAL, limit 3072 kB},
	release => sub { sql(q{SELECT pg_drop_replication_slot('left_behind')}); });
alter('{"max_slot_retained": "10GB"}');
holds('a slot about to be lost', 'max_slot_retained',
	cross => sub {
		sql(q{SELECT pg_create_physical_replication_slot('left_behind', true)});
		sql(q{ALTER SYSTEM SET max_slot_wal_keep_size = '32MB'});
		sql('SELECT pg_reload_conf()');
	},
	# each look writes some more WAL
	crossed => q{SELECT pg_logical_emit_message(false, 'x', repeat('x', 2000000)) IS NOT NULL AND safe_wal_size < 16 * 1024 * 1024
		FROM pg_replication_slots WHERE slot_name = 'left_behind'},
	reason => q{replication slot "left_behind" is about to be lost},
	release => sub {
		sql(q{ALTER SYSTEM RESET max_slot_wal_keep_size});
		sql(q{SELECT pg_reload_conf(); SELECT pg_drop_replication_slot('left_behind')});
	});
alter('{"max_slot_retained": null, "max_archive_backlog": 2}');
my $open = $node->basedir . '/archive_open';
holds('max_archive_backlog', 'max_archive_backlog',
	cross => sub {
		sql("ALTER SYSTEM SET archive_command = 'test -f $open'");
		sql('SELECT pg_reload_conf()');
		sql(q{SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()}) foreach 1 .. 2;
	},
	crossed => q{SELECT count(*) >= 2 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'},
	reason => q{[23] WAL files wait to be archived, limit 2},
	release => sub {
		append_to_file($open, 'open');
		sql('SELECT pg_reload_conf(), pg_switch_wal()');
	});
my $status = $node->data_dir . '/pg_wal/archive_status';
holds('an archive_status that cannot be read', 'max_archive_backlog',
	cross => sub { chmod(0, $status) or die "chmod: $!"; },
	reason => q{cannot be read: could not open directory "pg_wal/archive_status": Permission denied},
	release => sub { chmod(0700, $status) or die "chmod: $!"; });
alter('{"max_archive_backlog": null}');

completes();
over();
