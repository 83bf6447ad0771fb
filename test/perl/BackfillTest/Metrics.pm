# What the tests of the metrics have in common: samples of backfill_metrics by name and
# labels.

package BackfillTest::Metrics;

use strict;
use warnings;

use Exporter 'import';
use BackfillTest;
use BackfillTest::OneNode;

our @EXPORT = qw(metric metrics_of);

# The value of a sample, as text; empty if there is none.  More labels are given as
# name => value.  Options: role, who looks.
sub metric
{
	my ($name, $definition, %labels) = @_;
	my $role = delete $labels{role} || 'postgres';
	my $more = join('', map { " AND labels ->> '$_' = '$labels{$_}'" } sort keys %labels);

	return as($role, "SELECT value FROM backfill_metrics WHERE name = 'backfill_$name'
		AND labels ->> 'definition' = '$definition'$more");
}

# Rows, batches and WAL of the definition that are counted, with blanks between them.
sub metrics_of
{
	my ($definition) = @_;

	return join(' ', map { metric($_, $definition) } qw(rows_total batches_total wal_bytes_total));
}

1;
