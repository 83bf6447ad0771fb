# The reference is complete: every function, view, setting, preset, parameter,
# status, event, lock and SQLSTATE that the catalog or the sources have stands in
# a page of doc/reference/, with its types, defaults and limits.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use File::Basename qw(basename);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = make_node('main');
my @pages = map { @$_ } grep { $_->[0] =~ m{/reference/} } books();
my @sources = sources();

# --- What is read ------------------------------------------------------------

is(join(' ', map { page_name($_) } @sources),
	join(' ', sort map { page_name($_) } glob("$tree/src/*.[ch] $tree/src/*/*.[ch]")),
	'the sources are where the Makefile looks for them');
cmp_ok(scalar @sources, '>=', 80, 'all of them are read');
diag(sprintf('read %d pages of the reference, %d sources', scalar @pages, scalar @sources));

my $reference = join("\n", map { slurp_file($_) } @pages);
my $source = join('', map { slurp_file($_) } @sources);

# The text below a heading, to the next heading of the same or a higher level.
sub section
{
	my ($heading) = @_;
	return '' unless $reference =~ /^(#+) \Q$heading\E\n(.*)/ms;
	my ($level, $rest) = (length $1, $2);
	$rest =~ s/^#{1,$level} .*//ms;
	return $rest;
}

# What the catalog says, one row each, "|" between the columns.
sub rows
{
	my ($sql) = @_;
	return map { [ split(/\|/, $_, -1) ] } split(/\n/, $node->safe_psql('postgres', $sql));
}

my $members = "SELECT objid FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'backfill')";

# Functions and procedures, each with every argument.
my @functions = rows("SELECT proname, array_to_string(proargnames[:pronargs], ','),
	pg_get_function_identity_arguments(oid), pg_get_function_result(oid)
	FROM pg_proc WHERE oid IN ($members) AND proname LIKE 'backfill\\_%' ORDER BY 1");
cmp_ok(scalar @functions, '>', 5, 'the extension has functions');
foreach my $function (@functions)
{
	my ($name, $arguments, $signature, $result) = @$function;
	my $section = section($name);

	s/timestamp with time zone/timestamptz/g foreach $signature, $result;
	isnt($section, '', "reference: $name has a section");
	foreach my $argument (split(/,/, $arguments))
	{
		my ($type) = $signature =~ /(?:^|, )(?:IN )?"?\Q$argument\E"? (.*?)(?:,|$)/;
		like($section, qr/^\| `$argument` \| \Q$type\E \|/m,
			"reference: argument $argument of $name, of type $type");
	}
	foreach my $column ($result =~ /^TABLE\((.*)\)$/ ? split(/, /, $1) : ())
	{
		my ($named, $type) = $column =~ /^"?(.*?)"? (\S+)$/;
		like($section, qr/^\| `\Q$named\E` \| \Q$type\E \||TABLE \("\Q$named\E" \Q$type\E\)/m,
			"reference: column $named of what $name returns");
	}
	like($section, qr/^Returns/m, "reference: what $name returns") if $result ne '';
	like($section, qr/^Who/m, "reference: who may call $name");
	like($section, qr/^```sql$/m, "reference: $name has an example");
}

# Views and composite types, with every column in its order.
my @relations = rows("SELECT relname, oid, relkind FROM pg_class
	WHERE relkind IN ('v', 'c') AND relname ~ '^(backfill|pg_stat_progress)_'
	  AND (oid IN ($members) OR reltype IN ($members)) ORDER BY 1");
is(join(' ', map { $_->[0] } grep { $_->[2] eq 'c' } @relations), 'backfill_event backfill_fetch',
	'the extension has two composite types');
foreach my $view (@relations)
{
	my ($name, $oid) = @$view;
	my @documented = section($name) =~ /^\| `(\w+)` \| ([^|]+) \| \S/mg;
	my @columns;

	foreach my $column (rows("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = $oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum"))
	{
		$column->[1] =~ s/timestamp with time zone/timestamptz/;
		push @columns, @$column;
	}
	is_deeply(\@documented, \@columns, "reference: the columns of $name, with their types");
}

# Settings: name, type, default, minimum, maximum; the words of an enumeration.
my @settings = rows('SELECT name, type, coalesce("default", \'none\'), coalesce(min_val, \'\'),
	coalesce(max_val, \'\'), coalesce(array_to_string(enumvals, \',\'), \'\')
	FROM backfill_settings ORDER BY name');
my %documented = map { /^`(\w+)` \|/ ? ($1 => $_) : () }
  section('Settings') =~ /^\| (`\w+` \| .*)$/mg;
is(join(' ', sort keys %documented), join(' ', map { $_->[0] } @settings),
	'reference: every setting, and no other');
foreach my $setting (@settings)
{
	my ($name, $type, $default, $min, $max, $words) = @$setting;
	my $row = $documented{$name} || '';

	like($row, qr/^`$name` \| $type \| `\Q$default\E` \| \Q$min\E ?\| \Q$max\E ?\|/,
		"reference: type, default and limits of the setting $name");
	foreach my $word (split(/,/, $words))
	{
		like($row, qr/`$word`/, "reference: \"$word\" of the setting $name");
	}
}

# Presets: what the source gives each of them, and the default for what it does not.
my %type_of = map { $_->[0] => $_->[1] } @settings;
my %default_of = map { $_->[0] => $_->[2] } @settings;
my (%preset, %preset_of);
foreach my $value ($source =~ /^\s*(\{PRESET_\w+, "\w+", \d+\})/mg)
{
	my ($word, $name, $number) = $value =~ /PRESET_(\w+), "(\w+)", (\d+)/;
	my $unit = $number == 0 ? '' : $number % 1000 ? 'ms' : 's';
	$preset{ lc $word }{$name} =
	  $type_of{$name} eq 'interval' ? ($unit eq 's' ? $number / 1000 : $number) . $unit : $number / 1000000;
	$preset_of{$name} = 1;
}
my ($header, @preset_rows) = section('Presets') =~ /^\| (.*) \|$/mg;
my (undef, @words) = map { s/`//gr } split(/ \| /, $header);
is(join(' ', sort @words), join(' ', sort split(/,/, (grep { $_->[0] eq 'preset' } @settings)[0]->[5])),
	'reference: every preset, and no other');
is(join("\n", sort grep { !/^---/ } @preset_rows),
	join("\n", map { my $name = $_; join(' | ', map { "`$_`" } $name, map { $preset{$_}{$name} // $default_of{$name} } @words) }
		  sort keys %preset_of),
	'reference: what the presets give');

# Server parameters, which are there once the library is loaded.
foreach my $parameter (rows("SELECT name, vartype, CASE vartype WHEN 'string' THEN quote_literal(boot_val) ELSE boot_val END,
	coalesce(min_val, ''), coalesce(max_val, '') FROM pg_settings WHERE name LIKE 'backfill.%' ORDER BY 1"))
{
	my ($name, $type, $default, $min, $max) = @$parameter;
	like($reference, qr/^\| `\Q$name\E` \| $type \| `$default` \| $min ?\| $max ?\|/m,
		"reference: the parameter $name");
}

# Statuses: the constraint of the table is the list.
my $constraint = $node->safe_psql('postgres', "SELECT pg_get_constraintdef(oid) FROM pg_constraint
	WHERE conrelid = 'backfill.run'::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%enqueued%'");
my @statuses = $constraint =~ /'(\w+)'/g;
cmp_ok(scalar @statuses, '>=', 7, 'the table of runs knows statuses');
foreach my $status (@statuses)
{
	like(section('Statuses'), qr/^\| `$status` \|/m, "reference: the status $status");
}

# Kinds of events, states of workers, classes of locks, keys of the payload of
# a notification, wait events and SQLSTATEs, as the sources have them.
my @kinds = sort keys %{ { map { $_ => 1 } $source =~ /\.kind = "(\w+)"/g } };
cmp_ok(scalar @kinds, '>', 5, 'the source has kinds of events');
my @documented_kinds = section('backfill_events') =~ /^\| `(\w+)` \| [^|]+ \|$/mg;
is(join(' ', sort @documented_kinds), join(' ', @kinds),
	'reference: every kind of event, and no other');

my ($states) = $source =~ /^worker_slot_state_name\(.*?^(\{.*?^\})/ms;
my @states = ($states || '') =~ /\[WORKER_\w+\] = "(\w+)"/g;
cmp_ok(scalar @states, '>', 5, 'workers have states');
my ($state_row) = section('backfill_workers') =~ /^(\| `state` .*)$/m;
foreach my $state (@states)
{
	like($state_row, qr/`$state`/, "reference: the state \"$state\" of a worker");
}

my %classes = reverse $source =~ /\b(LOCK_CLASS_\w+)[\s=]+(\d+)\b/g;
cmp_ok(scalar keys %classes, '>', 2, 'the source has classes of locks');
foreach my $class (sort keys %classes)
{
	like(section('Locks'), qr/`objsubid` $class\b/, "reference: the lock of $classes{$class}");
}

$node->safe_psql('postgres', "CREATE TABLE told (id int PRIMARY KEY);
	SELECT backfill_define('told', 'told', 'SELECT FROM batch')");
my ($payload) = $node->safe_psql('postgres', "LISTEN backfill; SELECT backfill_start('told')") =~
  /^Asynchronous notification "backfill" with payload "(.*?)" received/m;
my @documented_keys = section('Notifications') =~ /^\| `(\w+)` \|/mg;
is(join(' ', sort @documented_keys),
	$node->safe_psql('postgres', "SELECT string_agg(k, ' ' ORDER BY k) FROM json_object_keys('$payload') k"),
	'reference: every key of a notification, and no other');

my %events = map { $_ => 1 } $source =~ /compat_wait_event\("(\w+)"\)/g;
cmp_ok(scalar keys %events, '>', 0, 'the source has wait events');
foreach my $event (sort keys %events)
{
	like(section('Wait events'), qr/^\| `$event` \|/m, "reference: the wait event $event");
}

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
SKIP:
{
	skip 'no errcodes.txt in this installation', 1 unless -f "$sharedir/errcodes.txt";
	my %codes = slurp_file("$sharedir/errcodes.txt") =~ /^(\w{5})\s+\w\s+(ERRCODE_\w+)/mg;
	my %state_of = reverse %codes;

	# and those of our own
	while ($source =~ /^#define (ERRCODE_\w+)\s+MAKE_SQLSTATE\(([^)]*)\)/mg)
	{
		my ($macro, $characters) = ($1, $2);
		$state_of{$macro} = join('', $characters =~ /'(.)'/g);
	}
	my @missing;

	foreach my $file (@sources)
	{
		foreach my $macro (slurp_file($file) =~ /errcode\((ERRCODE_\w+)\)/g)
		{
			push @missing, "$macro in " . basename($file)
			  unless $state_of{$macro} && section('Errors') =~ /^\| `$state_of{$macro}` \|/m;
		}
	}
	is(join("\n", @missing), '', 'reference: every SQLSTATE that the source raises');
}

$node->stop;
done_testing();
