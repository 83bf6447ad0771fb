# What the tests of upgrades have in common: clusters of which one is made out of
# the other by pg_upgrade, and what is to be the same in both.

package BackfillTest::Upgrade;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(old_install has_extension old_and_new upgrade_to);

# Where the older server is installed, with the extension, as run.sh has it from
# OLD_BINDIR; without one, nothing: the server is upgraded to itself, which asks
# all the same questions.
sub old_install
{
	my $bin = $ENV{BACKFILL_OLD_BIN} or return ();
	return (install_path => $bin =~ s{/bin/?$}{}r);
}

# Whether both servers have an extension beside ours.
sub has_extension
{
	my ($name) = @_;
	foreach my $config ('pg_config', map { "$_/pg_config" } grep { $_ } $ENV{BACKFILL_OLD_BIN})
	{
		my $dir = `'$config' --sharedir`;
		chomp $dir;
		return 0 unless -f "$dir/extension/$name.control";
	}
	return 1;
}

# A node of the old server, started, with the extension; and one of the new that
# has only been initialized.
sub old_and_new
{
	my ($conf) = @_;
	my $old = make_node('old', conf => $conf, old_install());
	my $new = PostgreSQL::Test::Cluster->new('new');
	my @extra = ('-U', 'postgres');

	# 18 writes checksums unless told otherwise
	my $major = `initdb --version` =~ /\) (\d+)/ ? $1 : 0;
	push @extra, '--no-data-checksums' if $major >= 18;
	$new->init(extra => \@extra);
	$new->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'backfill'
backfill.max_workers = 6
max_worker_processes = 16
max_prepared_transactions = 5
shared_buffers = 64MB
} . ($conf || ''));
	note('from ', query_ok($old, 'SHOW server_version'), " to $major");
	return ($old, $new);
}

# Run pg_upgrade: the outcome, and what it says.
sub upgrade_to
{
	my ($old, $new, @flags) = @_;
	my ($out, $err);
	my $newbin = `pg_config --bindir`;
	chomp $newbin;
	my $oldbin = $ENV{BACKFILL_OLD_BIN} || $newbin;

	# it writes where it stands, and finds its servers by their directories
	my $there = $PostgreSQL::Test::Utils::tmp_check;
	local %ENV = %ENV;
	delete @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)};
	my $ok = IPC::Run::run(
		[
			'pg_upgrade', '-U', 'postgres', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir,
			'-b', $oldbin, '-B', $newbin, '-s', $new->host, '-p', $old->port, '-P', $new->port, @flags
		],
		'<', \'', '>', \$out, '2>', \$err, init => sub { chdir($there) or die "cannot change to $there: $!" });
	note($out, $err);
	# what is wrong stands in a file of its own
	unless ($ok)
	{
		my $said = $new->data_dir . '/pg_upgrade_output.d/*';
		foreach my $file (glob("$said/*.txt"), glob("$there/*.txt"), glob("$said/log/*dump_*.log"))
		{
			my @lines = split /^/, slurp_file($file);
			diag("$file:\n", splice(@lines, @lines > 15 ? -15 : 0));
		}
		diag($out);
	}
	return $ok;
}

1;
