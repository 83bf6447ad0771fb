# The order of src/: scripts/house.pl finds nothing to complain of in it, and
# does complain of every disorder that it is there for.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find ();
use File::Path qw(make_path);
use File::Temp ();
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $tree = abs_path(dirname(__FILE__) . '/../..');

# Exit code and output of the script.
sub house
{
	my @arguments = @_;
	my $out = '';
	IPC::Run::run([ $^X, "$tree/scripts/house.pl", @arguments ], '>', \$out, '2>&1');
	return ($? >> 8, $out);
}

# --- The tree under test -------------------------------------------------------

my @sources;
File::Find::find({ no_chdir => 1, wanted => sub { push @sources, $_ if /\.[ch]$/ } }, "$tree/src");
cmp_ok(scalar @sources, '>', 90, 'the tree has sources');
my ($rc, $out) = house('check', $tree);
is($out, scalar(@sources) . " files are in order.\n", 'all of them are in order');
is($rc, 0, 'and the script says so');

# --- Trees that are made up ----------------------------------------------------

# A tree in order.
my %good = (
	'doc/internals.md' => "# Internals\n",
	'sql/backfill--1.0.sql' => "CREATE TABLE backfill.run (id int);\n",
	'src/arrows' => <<'EOT',
# a remark
backfill.c: process base  # the door
process: store base  # loops
store: base  # tables
base:  # ground
EOT
	'src/backfill.c' => <<'EOT',
#include "postgres.h"

#include "base/compat.h"
#include "process/worker.h"

void		_PG_init(void);

void
_PG_init(void)
{
	worker_register("backfill_worker_main");
}
EOT
	'src/process/worker.c' => <<'EOT',
#include "postgres.h"

#include "utils/guc.h"

#include "process/worker.h"
#include "store/run.h"

/* What waits, as backfill.run has it; asks for no PG_VERSION_NUM. */
static int	waiting = 0;

PG_FUNCTION_INFO_V1(backfill_wait);

Datum
backfill_wait(PG_FUNCTION_ARGS)
{
	elog(LOG, "see \"backfill_runs\" and backfill.runner");
	return Int32GetDatum(waiting + run_load(1));
}

void
worker_register(const char *function)
{
	strlcpy(worker.bgw_function_name, "backfill_worker_main", 64);
}

void
backfill_worker_main(Datum arg)
{
	waiting++;
}
EOT
	'src/process/worker.h' => "extern void worker_register(const char *function);\n",
	'src/process/loop.c' => "#include \"process/worker.h\"\n\nvoid\nloop(void)\n{\n\tworker_register(NULL);\n}\n",
	'src/process/loop.h' => "extern void loop(void);\n",
	'src/store/run.c' => <<'EOT',
#include "postgres.h"

#include "base/compat.h"
#include "store/run.h"

int
run_load(int id)
{
	return run_sql("SELECT * FROM backfill.run WHERE id = $1", id);
}
EOT
	'src/store/run.h' => "extern int run_load(int id);\n",
	'src/base/compat.h' => "#if PG_VERSION_NUM >= 160000\n#endif\n",
	'src/base/pin.c' => "int\t\t\tpin_level = 0;\n\nvoid\npin(void)\n{\n\tpin_level++;\n}\n",
	'src/base/pin.h' => "extern int pin_level;\nextern void pin(void);\n");

# What `check` has to say of the good tree with changes: files, or functions
# that change one.  The picture is drawn before, unless it is what is changed.
sub check
{
	my %changes = @_;
	my $top = File::Temp->newdir;
	my %files = %good;

	foreach my $path (keys %changes)
	{
		$files{$path} = ref $changes{$path} ? $changes{$path}->($files{$path}) : $changes{$path};
	}
	foreach my $path (grep { defined $files{$_} } keys %files)
	{
		make_path(dirname("$top/$path"));
		append_to_file("$top/$path", $files{$path});
	}
	house('draw', '--write', "$top") unless exists $changes{'doc/internals.md'};
	return house('check', "$top");
}

# The changes break one rule: these are the complaints.
sub broken
{
	my ($name, $expected, %changes) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($rc, $out) = check(%changes);

	is($out, join('', map { "$_\n" } @$expected), $name);
	is($rc, 1, "$name: the script fails");
}

sub after { my ($text) = @_; return sub { $_[0] . $text }; }
sub instead { my ($from, $to) = @_; return sub { $_[0] =~ s/\Q$from\E/$to/r }; }

is_deeply([ check() ], [ 0, "10 files are in order.\n" ], 'a tree in order is in order');

# --- Arrows

broken('an arrow that is not permitted',
	['src/process/loop.c:2: process may not read store, but it includes "store/run.h"'],
	'src/arrows' => instead('process: store base', 'process: base'),
	'src/process/worker.c' => "#include \"process/worker.h\"\n\nvoid\nworker_register(const char *function)\n{\n}\n",
	'src/process/loop.c' => "#include \"process/worker.h\"\n#include \"store/run.h\"\n");
broken('an arrow by use, without the header',
	['src/base/pin.c:14: base may not read store, but it uses run_load'],
	'src/store/run.c' => instead("#include \"base/compat.h\"\n", ''),
	'src/base/pin.c' => after("\nextern int run_load(int id);\n\nvoid\npin_run(void)\n{\n\trun_load(1);\n}\n"));
broken('an arrow in src/arrows that goes up',
	['src/arrows:5: the arrow from base to store does not go down'],
	'src/arrows' => instead('base:  #', 'base: store  #'));
broken('an arrow to a folder that is not listed',
	['src/arrows:4: store reads cellar, which is not listed'],
	'src/arrows' => instead('store: base', 'store: base cellar'));
broken('a folder that is not there',
	['src/arrows:6: there is no cellar'],
	'src/arrows' => after("cellar:  # below the ground\n"));
broken('a folder that is not listed',
	['src/attic/box.h:1: its folder attic is not listed in src/arrows'],
	'src/attic/box.h' => "extern int box;\n");
broken('a file in no folder',
	['src/box.h:1: stands in no folder'],
	'src/box.h' => "extern int box;\n");
broken('a line of src/arrows that cannot be read',
	['src/arrows:6: cannot be read: cellar: base'],
	'src/arrows' => after("cellar: base\n"));

# --- Circles

broken('a circle of files',
	['src/process/loop.c:1: is part of a circle of files: process/loop, process/worker'],
	'src/process/worker.h' => after("#include \"process/loop.h\"\n"));
broken('a circle of files by use',
	['src/process/loop.c:1: is part of a circle of files: process/loop, process/worker'],
	'src/process/worker.c' => after("\nextern void loop(void);\n\nstatic void\nagain(void)\n{\n\tloop();\n}\n"));
broken('a circle of folders',
	[
		'src/base/pin.h:3: base may not read store, but it includes "store/run.h"',
		'src/base/pin.h:3: is part of a circle of folders: base, store',
	],
	'src/base/pin.h' => after("#include \"store/run.h\"\n"));

# --- Files

broken('a long file',
	['src/base/pin.c:801: has 801 lines, more than 800'],
	'src/base/pin.c' => after("\n" x 794));
broken('a version outside of compat.h',
	['src/base/pin.c:8: asks for PG_VERSION_NUM, which only compat.h does'],
	'src/base/pin.c' => after("#if PG_VERSION_NUM >= 170000\n#endif\n"));
broken('a version in another compat.h',
	['src/store/compat.h:1: asks for PG_VERSION_NUM, which only compat.h does'],
	'src/store/compat.h' => "#if PG_VERSION_NUM >= 170000\n#endif\n");
broken('a header without its folder',
	['src/process/loop.c:1: includes "worker.h" without its folder'],
	'src/process/loop.c' => instead('process/worker.h', 'worker.h'));
broken('SQL outside of store',
	['src/base/pin.c:12: has SQL against a table of ours, outside store'],
	'src/base/pin.c' => after("\nvoid\npin_run(void)\n{\n\tsql(\"DELETE FROM backfill.run\");\n}\n"));

# --- Names

broken('a name that is not the file\'s',
	['src/store/run.c:12: catalog_run does not begin with run'],
	'src/store/run.c' => after("\nvoid\ncatalog_run(void)\n{\n}\n"));
broken('a name that only begins with the same letters',
	['src/store/run.c:12: running does not begin with run'],
	'src/store/run.c' => after("\nvoid\nrunning(void)\n{\n}\n"));
is_deeply(
	[
		check(
			'src/arrows' => after("names store/run.c: catalog  # as it was once called\n"),
			'src/store/run.c' => after("\nvoid\ncatalog_run(void)\n{\n}\n\nvoid\nstore_run_end(void)\n{\n}\n\nstatic void\nother(void)\n{\n}\n"))
	],
	[ 0, "10 files are in order.\n" ],
	'a name with a reason, one with the folder, and one that nobody else sees');
broken('a name with no reason',
	[
		'src/arrows:6: cannot be read: names store/run.c: catalog',
		'src/store/run.c:12: catalog_run does not begin with run'
	],
	'src/arrows' => after("names store/run.c: catalog\n"),
	'src/store/run.c' => after("\nvoid\ncatalog_run(void)\n{\n}\n"));

# --- The picture

broken('no picture',
	['doc/internals.md:1: is not the picture of the house as it stands: scripts/house.pl draw --write'],
	'doc/internals.md' => "# Internals\n");
{
	my $top = File::Temp->newdir;
	my $page = "$top/doc/internals.md";

	make_path(map { dirname("$top/$_") } keys %good);
	append_to_file("$top/$_", $good{$_}) foreach keys %good;
	append_to_file($page, "\n<!-- house: made by scripts/house.pl draw -->\nold\n<!-- end of house -->\n\nMore.\n");
	($rc, $out) = house('check', "$top");
	is($out, "doc/internals.md:3: is not the picture of the house as it stands: scripts/house.pl draw --write\n",
		'an old picture');
	my (undef, $picture) = house('draw', "$top");
	is($picture, <<'EOT', 'the picture');
| folder | what it is | files | reads |
| --- | --- | --- | --- |
| `backfill.c` | the door | backfill | process, base |
| `process/` | loops | loop, worker | store, base |
| `store/` | tables | run | base |
| `base/` | ground | compat, pin |  |
EOT
	house('draw', '--write', "$top");
	is(slurp_file($page),
		"# Internals\n\n<!-- house: made by scripts/house.pl draw -->\n$picture<!-- end of house -->\n\nMore.\n",
		'it stands where the old one stood');
	is((house('check', "$top"))[0], 0, 'and is the one that is wanted');
}

# --- Figures -------------------------------------------------------------------

{
	my $top = File::Temp->newdir;

	make_path("$top/src/engine");
	append_to_file("$top/src/engine/session.c", <<'EOT');
ErrorData *
session_try(Session *session, void (*function) (Session *, void *), void *arg)
{
	function(session, arg);
}
EOT
	append_to_file("$top/src/engine/batch.c", <<'EOT');
/* arguments and results in disguise */
static const char *reason;
static int64 answer, calls = 0;
static List *left = NIL;

/* state of the process */
static HTAB *cache = NULL;
static const char *const names[] = {"a", "b"};
static emit_log_hook_type previous_hook = NULL;
static int	level = 0;

static int64
ask(const char *what)
{
	return lookup(&cache, what);
}

static void
note(Session *session, void *arg)
{
	calls++;
	answer = ask(reason);
	left = lcons(arg, left);
}

static void
hooked(ErrorData *error)
{
	level++;
}

void
batch_note(Session *session, const char *why)
{
	reason = why;
	(void) session_try(session, note, names);
	while (left != NIL)
		session_log(session, answer);
}

void
batch_init(void)
{
	previous_hook = emit_log_hook;
	level = 0;
	emit_log_hook = hooked;
	before_shmem_exit(hooked, level);
}
EOT
	(undef, $out) = house('measure', '--verbose', "$top");
	like($out, qr/^files \(\.c, \.h\) +2, 0$/m, 'files are counted');
	like($out, qr/^file-level variables +7$/m, 'variables that can change are counted');
	like($out, qr/^\.\.\. that are arguments +4$/m, 'and those of them that are arguments');
	is(join(' ', $out =~ /^variable: \S+ (\w+) \(an argument\)$/mg), 'reason answer calls left',
		'which they are');
}

done_testing();
