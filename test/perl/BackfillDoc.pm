# What the tests of the documentation have in common: the pages, in the order
# in which they are to be read, and the sources that they are compared with.

package BackfillDoc;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Find ();
use PostgreSQL::Test::Utils;

our @EXPORT = qw($tree page_name files_below books links sources);

our $tree = abs_path(dirname(__FILE__) . '/../..');

# A file as the messages name it: by its place in the tree.
sub page_name
{
	my ($file) = @_;
	return $file =~ s/^\Q$tree\E\///r;
}

# Every file below a folder of the tree, however deep.
sub files_below
{
	my ($folder) = @_;
	my @files;

	File::Find::find({ no_chdir => 1, wanted => sub { push @files, $_ if -f } }, "$tree/$folder");
	return sort @files;
}

# The relative links of a page, in their order: what is linked, from the page on,
# and the heading, if one is named.  Code has no links.
sub links
{
	my ($page) = @_;
	my $text = slurp_file($page) =~ s/^```.*?^```$//msgr;
	return map { [ split(/#/, $_, 2) ] } grep { !/^\w+:/ } $text =~ /\]\(([^)\s]+)\)/g;
}

# README.md and what is in doc/, as lists of pages that are read one after the
# other: a page by itself, or the index of a folder and then the pages of that
# folder in the order in which the index names them.
sub books
{
	my @books = map { [$_] } "$tree/README.md", sort glob("$tree/doc/*.md");

	foreach my $index (sort grep { m{/doc/.*/README\.md$} } files_below('doc'))
	{
		my %seen;
		push @books, [
			$index,
			map { dirname($index) . "/$_" }
			grep { $_ ne '' && !m{/} && !$seen{$_}++ } map { $_->[0] } links($index)
		];
	}
	return @books;
}

# The sources of the library, headers included, in any folder.
sub sources
{
	return grep { /\.[ch]$/ } files_below('src');
}

1;
