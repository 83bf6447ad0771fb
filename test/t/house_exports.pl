# What leaves the library: what the server calls by its name, and nothing else.
# The server opens it with its symbols for all, so whatever else left would be
# shared with any other library that has something of the same name.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find ();
use PostgreSQL::Test::Utils;
use Test::More;

my $tree = abs_path(dirname(__FILE__) . '/../..');
require "$tree/scripts/house.pl";

# What nm finds, without nm: the table of dynamic symbols of an ELF file for 64
# bits and low bytes first.
sub elf_symbols
{
	my ($elf) = @_;
	my ($offset, $size, $count) = unpack('x40 Q< x10 S< S<', $elf);
	my @sections = map { [ unpack('x4 L< x16 Q< Q< L<', substr($elf, $offset + $_ * $size, $size)) ] } 0 .. $count - 1;
	my ($dynamic) = grep { $_->[0] == 11 } @sections or return ();
	my (undef, $start, $bytes, $names) = @$dynamic;
	my @symbols;
	foreach my $symbol (unpack('(a24)*', substr($elf, $start, $bytes)))
	{
		my ($name, $info, $other, $section) = unpack('L< C C S<', $symbol);

		# defined, not local, not hidden
		push @symbols, unpack('Z*', substr($elf, $sections[$names][1] + $name, 512))
		  if $section != 0 && $info >> 4 != 0 && ($other & 3) % 3 == 0;
	}
	return @symbols;
}

my ($directory) = run_command([ 'pg_config', '--pkglibdir' ]);
my ($library) = grep { -f } map { "$directory/backfill.$_" } 'so', 'dylib';
ok($library, 'the library is installed') or die "no library in $directory\n";

# Functions that the scripts of the extension name.
my $scripts = join('', map { slurp_file($_) } glob("$tree/sql/backfill--*.sql"));
my %functions = map { $_ => 1 } $scripts =~ /\bAS 'MODULE_PATHNAME', '(\w+)'/g;
cmp_ok(scalar keys %functions, '>', 20, 'the extension has functions');
is(() = $scripts =~ /'MODULE_PATHNAME'(?!, '\w+')/g, 0, 'each of them says which');

# Where background workers begin: the server looks for them by their names, too.
my $source = '';
File::Find::find({ no_chdir => 1, wanted => sub { $source .= slurp_file($_) if /\.c$/ } }, "$tree/src");
my @entries = sort $source =~ /\bbgw_function_name, "(\w+)"/g;
cmp_ok(scalar @entries, '>=', 3, 'there are kinds of background workers');
is(() = $source =~ /\bbgw_function_name,/g, scalar @entries, 'each is named where it is registered');

my %wanted = map { $_ => 1 } 'Pg_magic_func', '_PG_init', @entries,
  map { ($_, "pg_finfo_$_") } keys %functions;
my $binary = slurp_file($library);
my @elf = $binary =~ /^\x7fELF\x02\x01/ ? sort(elf_symbols($binary)) : ();
my @nm = exports($library);
my %exported = map { $_ => 1 } @nm ? @nm : @elf;
cmp_ok(scalar keys %exported, '>', 0, 'the table of symbols can be read');

is(join(' ', grep { !$exported{$_} } sort keys %wanted), '', 'all that is needed leaves the library');
is(join(' ', grep { !$wanted{$_} } sort keys %exported), '', 'nothing else leaves it');

SKIP:
{
	skip 'there is but one way to read it', 1 unless @nm && @elf;
	is("@elf", "@nm", 'the same symbols, read in another way');
}

done_testing();
