# The way into the sources: the README of a folder of src/ names every file of it,
# and no file is named, there, in doc/internals.md, in its pages or in a comment,
# that is not there; each question of the tour leads to a folder and a file of it.

use strict;
use warnings;

use BackfillDoc;
use File::Basename qw(basename dirname);
use PostgreSQL::Test::Utils;
use Test::More;

use constant LEAST_QUESTIONS => 10;

my %file = map { page_name($_) =~ s{^src/}{}r => slurp_file($_) } sources();
my %folder = map { (dirname($_) eq '.' ? '' : dirname($_) . '/') => 1 } keys %file;
my %is_basename = map { basename($_) => 1 } keys %file;
my $code = join("\n", values %file, map { slurp_file($_) } glob("$tree/sql/backfill--*.sql"), "$tree/scripts/house.pl");
my @readmes = map { "$tree/src/${_}README.md" } sort keys %folder;
my @tour = grep { m{/doc/internals(/.*)?\.md$} } map { @$_ } books();

cmp_ok(scalar keys %file, '>', 90, 'the tree has sources');
cmp_ok(scalar @readmes, '>', 10, 'in folders');
cmp_ok(scalar @tour, '>', 8, 'the tour has pages');

# The files that a text names, which are not there: with a folder, one of src/;
# without, one of those given.
sub wrong_files
{
	my ($text, $is_here) = @_;
	my @names = $text =~ m{(?<![\w./<-])((?:\w+/)*\w+\.[ch])\b}g;
	return grep { !($file{ s{^src/}{}r } || !m{/} && $is_here->($_)) } @names;
}

# What a text calls by name, between backticks, and neither our code nor our SQL has.
sub wrong_names
{
	my ($text) = @_;
	return grep { $_ !~ /^pg_/ && $code !~ /\b\Q$_\E\b/ } $text =~ /`([a-z]\w*_\w+)(?:\(\))?`/g;
}

# --- The folders --------------------------------------------------------------

# What src/arrows permits, in its order.
my (@order, %reads);
foreach my $line (grep { !/^(#|names |\s*$)/ } split(/\n/, slurp_file("$tree/src/arrows")))
{
	my ($name, $read) = $line =~ /^(\S+):\s*(.*?)\s*#/ or die "cannot be read: $line";
	push @order, $name;
	$reads{$name} = [ split(' ', $read) ];
}

# The folders that a line of the README lists.
sub listed
{
	my ($readme, $line) = @_;
	my ($list) = $readme =~ /^\Q$line\E: (.*)\.$/m or return '(no such line)';
	return $list eq 'nothing' || $list eq 'nobody' ? '' : join(' ', $list =~ /\[([^\]]+)\]/g);
}

foreach my $folder (sort keys %folder)
{
	my $page = "$tree/src/${folder}README.md";
	my $name = $folder eq '' ? 'backfill.c' : $folder =~ s{/$}{}r;

	ok(-f $page, "src/$folder has a README.md") or next;
	my $readme = slurp_file($page);
	my %linked = map { $_->[0] => 1 } links($page);
	my @here = grep { /^\Q$folder\E[^\/]+$/ } sort keys %file;

	cmp_ok(scalar @here, '>', 0, "src/$folder has files");
	foreach my $path (@here)
	{
		my $own = basename($path);
		my $with = $own =~ s/\.h$/.c/r;

		ok($linked{$own} || $linked{$with} && $file{"$folder$with"}, "src/${folder}README.md has $own");
	}
	is(join(' ', wrong_files($readme, sub { $file{"$folder$_[0]"} })),
		'', "src/${folder}README.md names no file that is not there");
	is(join(' ', wrong_names($readme)), '', "src/${folder}README.md: nor anything else");
	is(listed($readme, 'Reads'), join(' ', @{ $reads{$name} }), "src/${folder}README.md: whom it reads");
	is(listed($readme, 'Read by'),
		join(' ', grep { my $above = $_; grep { $_ eq $name } @{ $reads{$above} } } @order),
		"src/${folder}README.md: who reads it");
	cmp_ok(scalar(split(/\n/, $readme)), '<=', 40, "src/${folder}README.md fits a screen");
}

# --- The tour and its pages ----------------------------------------------------

foreach my $page (@tour)
{
	my $text = slurp_file($page);

	is(join(' ', wrong_files($text, sub { $is_basename{ $_[0] } })),
		'', page_name($page) . ' names no file that is not there');
	is(join(' ', wrong_names($text)), '', page_name($page) . ': nor anything else');
}

my @questions = slurp_file("$tree/doc/internals.md") =~ /^\| ([^|]+\?) \| (.*) \|$/mg;
cmp_ok(@questions / 2, '>=', LEAST_QUESTIONS, 'the tour has an index of questions');
while (my ($question, $answer) = splice(@questions, 0, 2))
{
	my ($readme, $path, $name) =
	  $answer =~ m{^\[\w+\]\(\.\./src/(\w+/README\.md)\) \| \[[\w.]+\]\(\.\./src/([\w/.]+)\), `(\w+)`$};

	ok($path && dirname($path) eq dirname($readme), "$question: a folder, and a file of it") or next;
	ok($file{$path}, "$question: $path is there") or next;
	like($file{$path}, qr/\b$name\b/, "$question: and has $name");
	ok((grep { $_->[0] eq basename($path) } links("$tree/src/$readme")), "$question: the README leads there, too");
}

# --- The comments --------------------------------------------------------------

my $named = 0;
my @wrong;
foreach my $path (sort keys %file)
{
	my $comments = join("\n", $file{$path} =~ m{/\*.*?\*/}sg);

	$named++ while $comments =~ /\w\.[ch]\b/g;
	push @wrong, map { "src/$path: $_" }
	  wrong_files($comments, sub { $file{ dirname($path) . "/$_[0]" } || $file{ $_[0] } });
}
is(join("\n", @wrong), '', 'comments name no file that is not there');
cmp_ok($named, '>', scalar keys %file, 'comments name files');

done_testing();
