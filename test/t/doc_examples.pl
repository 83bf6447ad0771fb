# Every example of the documentation works, and every link leads somewhere.
#
# The ```sql blocks of README.md and of all that is in doc/ run in their order,
# each page in a database of its own that has nothing but what the page makes;
# the pages of a folder in one, in the order of their index.  A block that is
# marked
#   ```sql no-run          is not run
#   ```sql error=42P01     must fail with that SQLSTATE
# and a comment "<!-- sql ... -->" is SQL that runs but is not shown.  A query that ends
# in psql's \watch is run once: what is to be shown is that it works.

use strict;
use warnings;

use BackfillDoc;
use BackfillTest;
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;

# There were that many when the recipes were written; none is to be forgotten.
use constant LEAST_EXAMPLES => 205;
use constant LEAST_WATCHED => 20;

my @books = books();
my @pages = map { @$_ } @books;
my $examples = 0;
my $watched = 0;
my $node = make_node('main');

# The blocks of a page: line, mark (empty, "hidden", "error=..."), text.
sub blocks
{
	my ($file) = @_;
	my @blocks;
	my $block;
	my $line = 0;

	foreach my $text (split(/^/, slurp_file($file)))
	{
		$line++;
		if (!$block)
		{
			if ($text =~ /^```(\S*)\s*(.*?)\s*$/)
			{
				$block = { line => $line, end => '```', language => $1, mark => $2, text => '' };
			}
			elsif ($text =~ /^<!-- sql$/)
			{
				$block = { line => $line, end => '-->', language => 'sql', mark => '', text => '' };
			}
		}
		elsif ($text =~ /^\Q$block->{end}\E\s*$/)
		{
			push @blocks, $block;
			$block = undef;
		}
		else
		{
			$block->{text} .= $text;
		}
	}
	die "$file: a block is not closed" if $block;
	return @blocks;
}

# --- The pages ---------------------------------------------------------------

is(join("\n", sort map { page_name($_) } @pages), join("\n", sort map { page_name($_) } "$tree/README.md", files_below('doc')),
	'every file in doc/ is a page, and stands once in the index of its folder');

# --- The examples ------------------------------------------------------------

foreach my $book (@books)
{
	my $db = 'doc_' . lc(page_name($book->[0]) =~ s/\W/_/gr);

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	foreach my $page (@$book)
	{
		run_examples($db, $page);
	}
}

sub run_examples
{
	my ($db, $page) = @_;
	my $name = page_name($page);

	foreach my $block (grep { $_->{language} eq 'sql' } blocks($page))
	{
		like($block->{mark}, qr/^(no-run|error=[0-9A-Z]{5})?$/, "$name:$block->{line}: a known mark");
		next if $block->{mark} eq 'no-run';
		$examples++;
		my $text = $block->{text} =~ s/^\\watch( [\d.]+)?$/\\g/mr;
		$watched++ if $text ne $block->{text};
		unlike($text, qr/^\\watch/m, "$name:$block->{line}: one \\watch, and only with an interval");
		my ($expected) = $block->{mark} =~ /^error=(.*)/;
		my ($out, $err, $timed_out) = ('', '', 0);
		my $rc = $node->psql(
			$db, $text,
			stdout => \$out, stderr => \$err,
			timeout => 300, timed_out => \$timed_out,
			extra_params => $expected ? [ '-v', 'VERBOSITY=sqlstate' ] : []);

		# its exit code is then not that of psql
		$rc = 'no answer for five minutes' if $timed_out;
		if ($expected)
		{
			my ($got) = $err =~ /ERROR:\s+([0-9A-Z]{5})/;
			is($got, $expected, "$name:$block->{line}: fails as it says") or diag("$out\n$err");
		}
		else
		{
			is($rc, 0, "$name:$block->{line}: works") or diag("$block->{text}\n$out\n$err");
		}
	}
}

cmp_ok($examples, '>=', LEAST_EXAMPLES, 'no example was lost');
cmp_ok($watched, '>=', LEAST_WATCHED, 'nor one that is to be watched');

# --- The links ---------------------------------------------------------------

# The anchors of the headings of a page, as the web makes them.
sub anchors
{
	my ($page) = @_;
	my $text = slurp_file($page) =~ s/^```.*?^```$//msgr;
	return map { my $a = lc $_; $a =~ s/[^\w\- ]//g; $a =~ s/ /-/g; $a } $text =~ /^#+ (.*)$/mg;
}

my $links = 0;
foreach my $page (@pages, "$tree/CHANGELOG.md", glob("$tree/src/*.md $tree/src/*/*.md"))
{
	my $name = page_name($page);
	my @twice = do { my %n; grep { $n{$_}++ == 1 } anchors($page) };

	is("@twice", '', "$name: no two headings have the same anchor") if page_name($page) =~ /^doc/;
	foreach my $link (links($page))
	{
		my ($file, $anchor) = @$link;
		my $to = $file eq '' ? $page : dirname($page) . "/$file";

		$links++;
		ok(-e $to, "$name: $file exists") or next;
		next unless defined $anchor;
		ok((grep { $_ eq $anchor } anchors($to)), "$name: $file#$anchor has its heading");
	}
}
cmp_ok($links, '>', 200, 'pages have links');
diag(sprintf('read %d pages, %d examples, %d links', scalar @pages, $examples, $links));

$node->stop;
done_testing();
