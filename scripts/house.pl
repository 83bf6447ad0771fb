#!/usr/bin/env perl
#
# The order of the house, which is src/: who may read whom, and how large the
# rooms are.  A room is a pair x.c and x.h, or one of them alone; a folder is
# several rooms with one subject.  An arrow goes from a room to one that it
# reads: whose header it includes, or whose functions or variables it uses,
# wherever they are declared.
#
#   scripts/house.pl check                 complain of what is not in order
#   scripts/house.pl measure [--verbose] [--library FILE]
#                                          figures, to compare two trees by
#   scripts/house.pl draw [--write]        the picture for doc/internals.md
#
# Each takes the top of a tree as its last argument; the default is where it is
# run.  What is permitted stands in src/arrows, which says how it is written.
#
# The sources are read as text, and need the layout that all of them have: what
# begins or ends at the top level does so outside of every brace.

use strict;
use warnings;

use File::Find ();
use Getopt::Long qw(GetOptionsFromArray);

my $LONGEST = 800;				# lines of a .c
my $PICTURE = 'doc/internals.md';
my ($BEGIN, $END) = ('<!-- house: made by scripts/house.pl draw -->', '<!-- end of house -->');
my $FUNCTION_TYPE = qr/\(\s*\*\s*(\w+)\s*\)\s*\(/;	# (*name) (

exit main(@ARGV) unless caller;

sub main
{
	my ($command, @rest) = @_;
	my %option;

	GetOptionsFromArray(\@rest, \%option, 'verbose', 'library=s', 'write') or return 2;
	my $top = shift(@rest) // '.';
	my $run = { check => \&check, measure => \&measure, draw => \&draw }->{ $command // '' };
	if (!$run || @rest || !-d "$top/src")
	{
		print STDERR "usage: house.pl check|measure|draw [--verbose] [--library FILE] [--write] [TREE]\n";
		return 2;
	}
	return $run->(read_house($top), \%option);
}

# --- Reading -----------------------------------------------------------------

sub slurp
{
	my ($path) = @_;
	open(my $file, '<:raw', $path) or die "$path: $!\n";
	local $/;
	return scalar <$file> // '';
}

# The number of the line in which a text has this position.
sub line_at { return 1 + (substr($_[0], 0, $_[1]) =~ tr/\n//); }

sub blank { return $_[0] =~ tr/\n/ /cr; }

# The whole house: its files, by their path in src/, what they read, and what
# is permitted.
sub read_house
{
	my ($top) = @_;
	my %house = (top => $top, file => {}, arrows => read_arrows("$top/src/arrows"));
	my @paths;

	File::Find::find({ no_chdir => 1, wanted => sub { push @paths, $_ if /\.[ch]$/ && -f } }, "$top/src");
	foreach my $path (map { substr($_, length "$top/src/") } sort @paths)
	{
		$house{file}{$path} = read_source($path, slurp("$top/src/$path"));
	}
	my %tables = map { $_ => 1 } map { slurp($_) =~ /^CREATE TABLE backfill\.(\w+)/mg }
	  glob("$top/sql/backfill--*.sql");
	$house{tables} = [ sort keys %tables ];
	find_arrows(\%house);
	return \%house;
}

# One file.  `code` has no comments, and blanks for what is in quotes; `bare` has no
# directives either.  Both have the lines and columns of the file.
sub read_source
{
	my ($path, $text) = @_;
	my ($room, $suffix) = $path =~ /^(.*)\.([ch])$/;
	my ($folder, $name) = $room =~ m{^(?:(.*)/)?(.*)$};
	my (@includes, @strings);

	# The door is a folder of its own.
	$folder //= $name eq 'backfill' ? 'backfill.c' : '';
	(my $code = $text) =~
	  s{(/\*.*?\*/|//[^\n]*)|"((?:\\.|[^"\\\n])*)"|'((?:\\.|[^'\\\n])+)'}
		{
			push @strings, { text => $2, line => line_at($text, $-[0]) } if defined $2;
			defined $1 ? blank($1) : defined $2 ? '"' . blank($2) . '"' : "'" . blank($3) . "'"
		}gse;
	while ($text =~ /^#\s*include\s+"([^"]+)"/mg)
	{
		push @includes, { header => $1, line => line_at($text, $-[0]) }
		  if substr($code, $-[0], 1) eq '#';
	}
	(my $bare = $code) =~ s/^[ \t]*#(?:[^\n]*\\\n)*[^\n]*/blank($&)/mge;
	return {
		path => $path, room => $room, folder => $folder, name => $name, suffix => $suffix,
		text => $text, code => $code, bare => $bare, lines => scalar $text =~ tr/\n//,
		includes => \@includes, strings => \@strings, top_level($bare) };
}

# What stands at the top level: the functions and variables that are defined.
sub top_level
{
	my ($bare) = @_;
	my (@functions, @variables, $function);
	my ($depth, $chunk, $start) = (0, '', 0);

	while ($bare =~ /\G([^{};]+|[{};])/g)
	{
		my ($token, $at) = ($1, $-[1]);

		if ($depth == 0 && $token eq ';')
		{
			push @variables, variables($chunk, line_at($bare, $start));
			$chunk = '';
			next;
		}
		if ($depth == 0 && $token eq '{' && $chunk =~ /\)\s*$/ && $chunk !~ /=/)
		{
			my ($name) = $chunk =~ /^(\w+)\s*\(/m ? $1 : $chunk =~ /(\w+)\s*\(/;
			$function = { name => $name, head => $chunk, static => scalar $chunk =~ /\bstatic\b/,
				line => line_at($bare, $start), at => $at };
		}
		$start = $at + ($token =~ /^(\s*)/ ? length $1 : 0) if $chunk !~ /\S/;
		$chunk .= $token if $depth == 0 || $depth == 1 && $token eq '}';
		$depth += $token eq '{' ? 1 : $token eq '}' ? -1 : 0;
		if ($depth == 0 && $function)
		{
			$function->{body} = substr($bare, $function->{at}, $at + 1 - $function->{at});
			$function->{lines} = line_at($bare, $at) - $function->{line} + 1;
			push @functions, $function;
			($chunk, $function) = ('', undef);
		}
	}
	return (functions => \@functions, variables => \@variables);
}

# The variables that a declaration at the top level defines, if it does and
# they can change.
sub variables
{
	my ($declaration, $line) = @_;
	my %found = (line => $line, static => scalar $declaration =~ /\bstatic\b/);
	my (@found, $type);

	return () if $declaration =~ /^\s*(?:typedef|extern)\b/;
	return { %found, name => $1 } if $declaration =~ /^[^=(]*$FUNCTION_TYPE/;
	return () if $declaration =~ /^[^=]*\(/;
	1 while $declaration =~ s/\([^()]*\)|\[[^\[\]]*\]//g;
	foreach my $one (split(/,/, $declaration))
	{
		my ($before, $name) = $one =~ /^([^=]*?)(\w+)\s*(?:=.*)?$/s or next;

		# What a pointer points to may be constant, but not the pointer.
		$type //= $before =~ s/\*.*//sr;
		next if $type !~ /\w/ || $type =~ /^\s*(?:static\s+)?(?:struct|union|enum)\s*$/;
		my $own = $before =~ /.*\*(.*)/s ? $1 : $type;
		push @found, { %found, name => $name } unless $own =~ /\bconst\b/;
	}
	return @found;
}

# Who reads whom, and where first: between rooms, and between folders.  What is
# used counts only where a declaration of it can be seen.
sub find_arrows
{
	my ($house) = @_;
	my @files = map { $house->{file}{$_} } sort keys %{ $house->{file} };
	my (%headers, %owner, %reads);

	foreach my $file (@files)
	{
		push @{ $headers{"$file->{name}.h"} }, $file if $file->{suffix} eq 'h';
		next unless $file->{suffix} eq 'c';
		$owner{ $_->{name} } = $file
		  foreach grep { !$_->{static} } @{ $file->{functions} }, @{ $file->{variables} };
	}
	foreach my $file (@files)
	{
		foreach my $include (@{ $file->{includes} })
		{
			my $known = $house->{file}{ $include->{header} };
			my @named = @{ $headers{ $include->{header} } // [] };

			$include->{no_folder} = 1 if !$known && @named;
			$known //= (grep { $_->{folder} eq $file->{folder} } @named)[0] // $named[0] // next;
			$reads{ $file->{path} }{ $known->{path} } = 1;
			add_arrow($house, $file, $known, $include->{line}, "includes \"$include->{header}\"");
		}
	}
	foreach my $file (grep { $_->{suffix} eq 'c' } @files)
	{
		my $uses = $file->{bare} =~ s/\bextern\b[^;]*;/blank($&)/ger;
		my %declared = map { $_ => 1 } grep { $owner{$_} }
		  map { $house->{file}{$_}{bare} =~ /\bextern\b[^;]*?(\w+)\s*[(\[;]/g } keys %{ closure(\%reads, $file->{path}) };

		while ($uses =~ /(?<![\w.>])([A-Za-z_]\w*)/g)
		{
			add_arrow($house, $file, $owner{$1}, line_at($uses, $-[0]), "uses $1") if $declared{$1};
		}
	}
}

sub add_arrow
{
	my ($house, $from, $to, $line, $how) = @_;

	foreach my $level ('room', 'folder')
	{
		$house->{$level}{ $from->{$level} }{ $to->{$level} } //=
		  { from => $from, to => $to, at => "src/$from->{path}:$line", how => $how }
		  if $from->{$level} ne $to->{$level};
	}
}

# src/arrows: see its head.
sub read_arrows
{
	my ($path) = @_;
	my %arrows = (folder => {}, order => [], place => {}, prefix => {}, wrong => []);
	my $n = 0;

	return \%arrows unless -f $path;
	foreach my $line (split(/\n/, slurp($path)))
	{
		$n++;
		next if $line =~ /^\s*(#|$)/;
		if ($line =~ /^names (\S+):\s*(\S.*?)\s*#\s*\S/)
		{
			$arrows{prefix}{$1} = [ split(' ', $2) ];
		}
		elsif ($line =~ /^(\S+):\s*(.*?)\s*#\s*(\S.*?)\s*$/ && !$arrows{folder}{$1})
		{
			$arrows{folder}{$1} = { reads => [ split(' ', $2) ], caption => $3 };
			push @{ $arrows{order} }, $1;
			$arrows{place}{$1} = $n;
		}
		else
		{
			push @{ $arrows{wrong} }, "src/arrows:$n: cannot be read: $line";
		}
	}
	return \%arrows;
}

# Groups of nodes that can each be reached from each other.
sub circles
{
	my ($edges) = @_;
	my (%reach, %seen, @circles);

	foreach my $node (keys %$edges)
	{
		my @todo = keys %{ $edges->{$node} };
		while (defined(my $next = shift @todo))
		{
			push @todo, keys %{ $edges->{$next} // {} } unless $reach{$node}{$next}++;
		}
	}
	foreach my $node (sort keys %$edges)
	{
		next if $seen{$node} || !$reach{$node}{$node};
		my @circle = grep { $reach{$node}{$_} && $reach{$_}{$node} } sort keys %$edges;
		$seen{$_} = 1 foreach @circle;
		push @circles, \@circle;
	}
	return @circles;
}

# Every arrow from a file to one of another folder, both of which are in one.
sub arrows_out
{
	my ($house) = @_;
	return grep { $_->{from}{folder} ne $_->{to}{folder} && $_->{from}{folder} ne '' && $_->{to}{folder} ne '' }
	  map { my $room = $_; map { $house->{room}{$room}{$_} } sort keys %{ $house->{room}{$room} } }
	  sort keys %{ $house->{room} };
}

# --- check -------------------------------------------------------------------

sub check
{
	my ($house) = @_;
	my @files = map { $house->{file}{$_} } sort keys %{ $house->{file} };
	my @problems = (
		check_arrows($house), (map { check_file($house, $_) } @files), check_circles($house),
		check_names($house, @files), check_picture($house));

	print map { "$_\n" } @problems;
	print scalar(@files), " files are in order.\n" unless @problems;
	return @problems ? 1 : 0;
}

# What is permitted, and whether the folders keep to it.
sub check_arrows
{
	my ($house) = @_;
	my $arrows = $house->{arrows};
	my $place = $arrows->{place};
	my %there = map { $_->{folder} => 1 } values %{ $house->{file} };
	my @problems = @{ $arrows->{wrong} };

	push @problems, 'src/arrows:1: is missing, or empty' unless %$place;
	foreach my $folder (@{ $arrows->{order} })
	{
		my $at = "src/arrows:$place->{$folder}";

		push @problems, "$at: there is no $folder" unless $there{$folder};
		foreach my $read (@{ $arrows->{folder}{$folder}{reads} })
		{
			push @problems, !$place->{$read} ? "$at: $folder reads $read, which is not listed"
			  : $place->{$read} <= $place->{$folder} ? "$at: the arrow from $folder to $read does not go down"
			  : ();
		}
	}
	foreach my $arrow (arrows_out($house))
	{
		my ($from, $to) = ($arrow->{from}{folder}, $arrow->{to}{folder});
		push @problems, "$arrow->{at}: $from may not read $to, but it $arrow->{how}"
		  unless grep { $_ eq $to } @{ $arrows->{folder}{$from}{reads} // [] };
	}
	return @problems;
}

# What can be said of a file by itself.
sub check_file
{
	my ($house, $file) = @_;
	my $at = "src/$file->{path}";
	my $tables = join('|', @{ $house->{tables} });
	my @problems;

	push @problems, "$at:1: stands in no folder" if $file->{folder} eq '';
	push @problems, "$at:1: its folder $file->{folder} is not listed in src/arrows"
	  if $file->{folder} ne '' && !$house->{arrows}{folder}{ $file->{folder} };
	push @problems, "$at:$file->{lines}: has $file->{lines} lines, more than $LONGEST"
	  if $file->{suffix} eq 'c' && $file->{lines} > $LONGEST;
	push @problems, map { "$at:$_->{line}: includes \"$_->{header}\" without its folder" }
	  grep { $_->{no_folder} } @{ $file->{includes} };
	if ($file->{path} !~ m{^(?:base/)?compat\.h$})
	{
		push @problems, "$at:" . line_at($file->{code}, $-[0]) . ': asks for PG_VERSION_NUM, which only compat.h does'
		  while $file->{code} =~ /\bPG_VERSION_NUM\b/g;
	}
	push @problems, map { "$at:$_->{line}: has SQL against a table of ours, outside store" }
	  grep { $_->{text} =~ /\bbackfill\.(?:$tables)\b/ } @{ $file->{strings} }
	  if $tables ne '' && $file->{folder} ne 'store';
	return @problems;
}

sub check_circles
{
	my ($house) = @_;
	my @problems;

	foreach my $level ('folder', 'room')
	{
		foreach my $circle (circles($house->{$level}))
		{
			my ($from) = @$circle;
			my ($to) = grep { $house->{$level}{$from}{$_} } @$circle;
			my $arrow = $house->{$level}{$from}{$to};
			push @problems, "$arrow->{at}: is part of a circle of "
			  . ($level eq 'room' ? 'files' : 'folders') . ': ' . join(', ', map { $_ eq '' ? 'src' : $_ } @$circle);
		}
	}
	return @problems;
}

# A name that other files can use begins with the name of its file, or with
# those of its folder and its file.  SQL and the server call some by names that
# are theirs.
sub check_names
{
	my ($house, @files) = @_;
	my %free = map { $_ => 1 } '_PG_init', map {
		$_->{bare} =~ /\bPG_FUNCTION_INFO_V1\s*\(\s*(\w+)/g,
		  $_->{text} =~ /\bbgw_function_name\s*,\s*"(\w+)"/g
	} @files;
	my @problems;

	foreach my $file (grep { $_->{suffix} eq 'c' } @files)
	{
		my @prefixes = ($file->{name}, "$file->{folder}_$file->{name}", @{ $house->{arrows}{prefix}{ $file->{path} } // [] });

		foreach my $function (grep { !$_->{static} && !$free{ $_->{name} } } @{ $file->{functions} })
		{
			push @problems, "src/$file->{path}:$function->{line}: $function->{name} does not begin with $file->{name}"
			  unless grep { $function->{name} =~ /^\Q$_\E(?:_|$)/ } @prefixes;
		}
	}
	push @problems, map { "src/arrows:1: there is no $_, whose names are permitted" }
	  grep { !$house->{file}{$_} } sort keys %{ $house->{arrows}{prefix} };
	return @problems;
}

sub check_picture
{
	my ($house) = @_;
	my $path = "$house->{top}/$PICTURE";
	my $text = -f $path ? slurp($path) : '';
	my $line = $text =~ /^\Q$BEGIN\E$/m ? line_at($text, $-[0]) : 1;

	return () if index($text, "$BEGIN\n" . picture($house) . "$END\n") >= 0;
	return "$PICTURE:$line: is not the picture of the house as it stands: scripts/house.pl draw --write";
}

# --- draw --------------------------------------------------------------------

sub picture
{
	my ($house) = @_;
	my $picture = "| folder | what it is | files | reads |\n| --- | --- | --- | --- |\n";

	foreach my $folder (@{ $house->{arrows}{order} })
	{
		my $listed = $house->{arrows}{folder}{$folder};
		my %names = map { $_->{name} => 1 } grep { $_->{folder} eq $folder } values %{ $house->{file} };
		$picture .= '| ' . join(' | ', '`' . ($folder =~ /\./ ? $folder : "$folder/") . '`',
			$listed->{caption}, join(', ', sort keys %names), join(', ', @{ $listed->{reads} })) . " |\n";
	}
	return $picture;
}

# Print the picture, or put it where the last one stood, or, if none did, at
# the end of the page.
sub draw
{
	my ($house, $option) = @_;
	my ($picture, $path) = (picture($house), "$house->{top}/$PICTURE");

	return !print $picture unless $option->{write};
	my $text = slurp($path);
	$text .= "\n## The house\n\n$BEGIN\n$END\n" unless $text =~ /^\Q$BEGIN\E\n.*^\Q$END\E\n/ms;
	$text =~ s/^\Q$BEGIN\E\n.*?^\Q$END\E\n/$BEGIN\n$picture$END\n/ms;
	open(my $file, '>:raw', $path) or die "$path: $!\n";
	print $file $text;
	close($file) or die "$path: $!\n";
	return 0;
}

# --- measure -----------------------------------------------------------------

sub measure
{
	my ($house, $option) = @_;
	my @files = map { $house->{file}{$_} } sort keys %{ $house->{file} };
	my @sources = sort { $a->{lines} <=> $b->{lines} } grep { $_->{suffix} eq 'c' } @files;
	my ($longest) = sort { $b->{lines} <=> $a->{lines} } map { @{ $_->{functions} } } @files;
	my @circles = sort { @$b <=> @$a } circles($house->{room});
	my $place = $house->{arrows}{place};
	my @up = grep { ($place->{ $_->{to}{folder} } // 1e9) < ($place->{ $_->{from}{folder} } // 0) } arrows_out($house);
	my %taker = function_takers(@files);
	my %argument = map { $_ => 1 } map { arguments($_, %taker) } @files;
	my @variables = map { @{ $_->{variables} } } @files;
	my $folders = grep { $_->{folder} !~ /^(?:backfill\.c)?$/ } @files;
	my ($lines, $arrows) = (0, 0);

	$lines += $_->{lines} foreach @files;
	$arrows += keys %$_ foreach values %{ $house->{room} };
	printf "%-24s %s\n", @$_ foreach (
		[ 'files (.c, .h)', @sources . ', ' . (@files - @sources) ],
		[ 'lines', $lines ],
		[ 'median .c', @sources ? $sources[ $#sources / 2 ]{lines} : '-' ],
		[ 'longest .c', @sources ? "$sources[-1]{lines} ($sources[-1]{path})" : '-' ],
		[ 'longest function', $longest ? "$longest->{lines} ($longest->{name})" : '-' ],
		[ 'arrows between files', $arrows ],
		[ 'circles of files', @circles . (@circles ? ', of ' . join(', ', map { scalar @$_ } @circles) . ' files' : '') ],
		[ 'circles of folders', $folders ? scalar circles($house->{folder}) : '-' ],
		[ 'arrows up', $folders ? scalar @up : '-' ],
		[ 'exported symbols', $option->{library} && exports($option->{library}) || '-' ],
		[ 'file-level variables', scalar @variables ],
		[ '... that are arguments', scalar keys %argument ]);
	return 0 unless $option->{verbose};

	print "\n", map { 'circle: ' . join(' ', @$_) . "\n" } @circles;
	print map { "arrow up: $_->{at}: $_->{how}\n" } @up;
	foreach my $from ($folders ? @{ $house->{arrows}{order} } : ())
	{
		print map { "permitted, but nobody does it: $from reads $_\n" }
		  grep { !$house->{folder}{$from}{$_} } @{ $house->{arrows}{folder}{$from}{reads} };
	}
	foreach my $file (@files)
	{
		print map { "variable: src/$file->{path}:$_->{line}: $_->{name}" . ($argument{$_} ? ' (an argument)' : '') . "\n" }
		  @{ $file->{variables} };
	}
	return 0;
}

# The functions that are given another one, and call it.
sub function_takers
{
	my @files = @_;
	my $types = join('|', map { $_->{bare} =~ /^typedef[^;]*?$FUNCTION_TYPE/mg } @files) || '\0';
	return map { $_->{name} => 1 }
	  grep { $_->{head} =~ $FUNCTION_TYPE || $_->{head} =~ /\b(?:$types)\b/ }
	  map { @{ $_->{functions} } } @files;
}

# The variables of a file that are arguments or results in disguise.  Such a
# one carries something past a function that takes none: it is used on the one
# side where a function is handed to another one, to be called, and on the
# other side in what is handed.  So is one that is used in nothing but what is
# handed: it tells the next call something.  What is registered with the server
# is not meant, since that is called at some other time.
sub arguments
{
	my ($file, %taker) = @_;
	my %function = map { $_->{name} => $_ } @{ $file->{functions} };
	my (%calls, %callers, %handed);

	foreach my $name (keys %function)
	{
		my $body = $function{$name}{body};

		foreach my $called (grep { $function{$_} } $body =~ /\b(\w+)\s*\(/g)
		{
			$calls{$name}{$called} = $callers{$called}{$name} = 1;
		}
		while ($body =~ /\b(\w+)\s*(\((?:[^()]++|(?2))*\))/g)
		{
			my ($callee, $given, $end) = ($1, $2, $-[2] + 1);
			pos($body) = $end;		# there may be calls within
			next unless $taker{$callee};
			push @{ $handed{$_} }, $name, grep { $function{$_} } $callee
			  foreach grep { $function{$_} } $given =~ /\b(\w+)\b(?!\s*\()/g;
		}
	}
	my @found;
	foreach my $variable (@{ $file->{variables} })
	{
		my %user = map { $_ => 1 } grep { $function{$_}{body} =~ /(?<![\w.>])$variable->{name}\b/ } keys %function;
		my $past = grep {
			my $in = closure(\%calls, $_);
			my $out = closure(\%callers, @{ $handed{$_} });
			(grep { $user{$_} } keys %$in) && (grep { $user{$_} } keys %$out)
		} keys %handed;
		my $only = %user && !grep { !$handed{$_} } keys %user;
		push @found, $variable if $past || $only;
	}
	return @found;
}

# What can be reached from the nodes, which are part of it.
sub closure
{
	my ($edges, @todo) = @_;
	my %seen;

	while (defined(my $node = shift @todo))
	{
		push @todo, keys %{ $edges->{$node} // {} } unless $seen{$node}++;
	}
	return \%seen;
}

# The symbols that a library defines for others, but for those of the linker;
# none if there is no nm to tell them.
sub exports
{
	my ($library) = @_;
	my @symbols;

	return () unless grep { -x "$_/nm" } split(/:/, $ENV{PATH});
	@symbols = map { /^\S+ [A-Za-z] ([^\s@]+)/ } qx(nm -D --defined-only '$library');
	die "$library: no symbols\n" unless @symbols;
	return grep { !/^(?:_init|_fini|_edata|_end|__bss_start)$/ } sort @symbols;
}

1;
