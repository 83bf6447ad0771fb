#!/usr/bin/perl
# A GET for the sources of tests: the status, what Retry-After says, and the body, a line each.
#
#   perl get.pl PORT PATH

use strict;
use warnings;

use IO::Socket::INET;

my ($port, $path) = @ARGV;
my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 10)
  or die "cannot connect to port $port: $@\n";

print $socket "GET $path HTTP/1.0\r\n\r\n";
my $answer = do { local $/; <$socket> };
my ($head, $body) = split(/\r\n\r\n/, $answer // '', 2);
die "there was no answer\n" unless defined $body && $head =~ m{^HTTP/1\.\d (\d+)};
my $status = $1;
my ($retry_after) = $head =~ /^Retry-After: ([^\r\n]+)/mi;

print join("\n", $status, $retry_after // '', $body), "\n";
