# What the files of the page promise, as far as it can be read in them: no HTML is made of texts, nothing is fetched from elsewhere, no style or
# script stands in an element, and the README names each file.

use strict;
use warnings;

use File::Basename qw(basename dirname);
use PostgreSQL::Test::Utils;
use Test::More;

my $page = dirname(__FILE__) . '/../../console/page';
my $readme = PostgreSQL::Test::Utils::slurp_file("$page/README.md");
my @scripts = sort glob("$page/*.js");

cmp_ok(scalar @scripts, '>', 5, 'there are scripts');
foreach my $file (@scripts, glob("$page/*.css"))
{
	my $name = basename($file);
	my $text = PostgreSQL::Test::Utils::slurp_file($file);
	my @lines = split(/\n/, $text);

	cmp_ok(scalar @lines, '<=', 800, "$name has at most 800 lines");
	like($readme, qr/\(\Q$name\E\)/, "the README names $name");
	like($text, qr{\A(?://|/\*)}, "$name opens with its purpose");
	unlike($text, qr{https?://}, "$name fetches nothing from elsewhere");
	next if $name =~ /\.css$/;
	unlike($text, qr/innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|\beval\(|new Function|setAttribute\(['"](?:on|style)/,
		"$name makes no HTML and no code of texts");
	unlike($text, qr/el\('[a-z0-9]+', \{[^}]*\bstyle:/, "$name puts no style into an element");
}
is(join(' ', grep { !-e "$page/$_" } $readme =~ /\]\(([a-z]+\.(?:js|css))\)/g), '', 'the README names no file that is not there');
done_testing();
