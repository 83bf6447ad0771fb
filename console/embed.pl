#!/usr/bin/env perl
#
# embed.pl OUTPUT FILE ...
#
# Writes a C file that holds the files, for asset_find.  A file is known by its
# name without folders; the names of all are to differ.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use File::Basename qw(basename);

my %type = (
	js => 'text/javascript; charset=utf-8',
	css => 'text/css; charset=utf-8',
	svg => 'image/svg+xml',
	png => 'image/png',
	ico => 'image/x-icon',
	txt => 'text/plain; charset=utf-8');

my ($output, @files) = @ARGV;
die "usage: embed.pl OUTPUT FILE ...\n" unless $output;

my (@bytes, @rows, %seen);
foreach my $path (sort { basename($a) cmp basename($b) } @files)
{
	my $name = basename($path);
	my ($ending) = $name =~ /\.(\w+)$/;

	die "$path: what is this?\n" unless $ending && $type{$ending};
	die "$path: there are two of that name\n" if $seen{$name}++;
	die "$path: an odd name\n" unless $name =~ /^[\w.-]+$/;
	open(my $file, '<:raw', $path) or die "$path: $!\n";
	local $/;
	my $content = <$file> // '';
	# the map of a script is not shipped with it
	$content =~ s{^//# sourceMappingURL=.*\n?}{}m if $ending eq 'js';
	my $n = @rows;
	my $numbers = join(',', unpack('C*', $content));
	$numbers =~ s/(.{1,110},)/$1\n/g;
	push @bytes, "static const unsigned char bytes_${n}[] = {\n$numbers\n};\n";
	push @rows, sprintf("\t{\"%s\", \"%s\", \"\\\"%s\\\"\", bytes_%d, %d},\n",
		$name, $type{$ending}, substr(sha256_hex($content), 0, 32), $n, length $content);
}

open(my $out, '>', "$output.new") or die "$output.new: $!\n";
print $out "/* Made by embed.pl: do not edit. */\n#include <string.h>\n\n#include \"assets.h\"\n\n";
print $out @bytes, "\nstatic const Asset assets[] = {\n", @rows, "\t{NULL, NULL, NULL, NULL, 0}\n};\n";
print $out <<'EOC';

/* The file of that name, or NULL. */
const Asset *
asset_find(const char *name)
{
	for (const Asset *asset = assets; asset->name != NULL; asset++)
	{
		if (strcmp(asset->name, name) == 0)
			return asset;
	}
	return NULL;
}
EOC
close($out) or die "$output.new: $!\n";
rename("$output.new", $output) or die "$output: $!\n";
