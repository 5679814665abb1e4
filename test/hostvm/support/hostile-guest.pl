# Runs as root in a guest and writes frames that its kernel never would. Prints how many it wrote.
# Arguments: MODE SECONDS OWN_IP OTHER_IP GATEWAY_IP HOST_IP OUTSIDE_IP.
# Needs only perl-base, so the socket's constants are numbers from packet(7).
use strict;
use warnings;

my ($mode, $seconds, $own, $other, $gateway, $host, $outside) = @ARGV;
open my $index, '<', '/sys/class/net/eth0/ifindex' or die "no eth0: $!";
my $link = pack 'SnlSCCa8', 17, 3, <$index> + 0, 0, 0, 0, '';
socket my $wire, 17, 3, 0x0300 or die "no packet socket: $!";
my $written = 0;
sub out { send $wire, $_[0], 0, $link and $written++ }

sub mac_of { pack 'C6', 6, 0, split /\./, shift }
sub address { pack 'C4', split /\./, shift }
sub checksum { my $sum = 0; $sum += $_ for unpack 'n*', shift; $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16; ~$sum & 0xffff }
sub ipv4 {
  my ($from, $to, $protocol, $payload) = @_;
  my $header = pack('CCnnnCCn', 0x45, 0, 20 + length $payload, 0, 0, 64, $protocol, 0) . address($from) . address($to);
  substr($header, 10, 2) = pack 'n', checksum($header);
  $header . $payload
}
sub udp { my ($from, $to, $from_port, $port) = @_; ipv4($from, $to, 17, pack('nnnn', $from_port, $port, 26, 0) . 'x' x 18) }
sub syn {
  my ($from, $to, $from_port, $port) = @_;
  my $segment = pack 'nnNNnnnn', $from_port, $port, 1, 0, 0x5002, 65535, 0, 0;
  substr($segment, 16, 2) = pack 'n', checksum(address($from) . address($to) . pack('nn', 6, 20) . $segment);
  ipv4($from, $to, 6, $segment)
}
sub arp { my ($mac, $ip, $target) = @_; pack('nnCCn', 1, 0x0800, 6, 4, 1) . $mac . address($ip) . "\0" x 6 . address($target) . "\0" x 18 }
my ($me, $them, $router, $all) = (mac_of($own), mac_of($other), mac_of($gateway), "\xff" x 6);
sub ethernet { my ($to, $from, $tags, $type, $payload) = @_; out($to . $from . $tags . pack('n', $type) . $payload) }
sub tag { pack 'nn', @_ }

my @tags = ('', tag(0x8100, 0), tag(0x8100, 0xe000), tag(0x88a8, 0), tag(0x8100, 5), tag(0x88a8, 0) . tag(0x8100, 0), tag(0x8100, 0) . tag(0x8100, 0));
if ($mode eq 'escape') {
  for my $round (1 .. 5) {
    for my $tags (@tags) {
      for my $source ([$me, $own], [$me, $other], [$them, $other], [$me, $host]) {
        for my $to ($router, $all) { ethernet($to, $source->[0], $tags, 0x0800, udp($source->[1], $outside, 40000, 4242)) }
      }
    }
  }
} elsif ($mode eq 'reach') {
  for my $tags (@tags) {
    for my $to ($them, $router, $all, "\x01\x00\x5e\x00\x00\xfb", "\x06\x00\x00\x00\x00\x99") {
      ethernet($to, $me, $tags, 0x0800, udp($own, $other, 40000, 4242));
      ethernet($to, $me, $tags, 0x0806, arp($me, $gateway, $other));
      ethernet($to, $me, $tags, 0x86dd, 'x' x 60);
      ethernet($router, $me, $tags, 0x0800, udp($own, $host, 40000, 4242));
      ethernet($router, $me, $tags, 0x0800, syn($own, $gateway, 40000, 22));
    }
  }
} else {
  for (my $end = time + $seconds, my $n = 0; time < $end; $n++) {
    my $mac = pack 'CCN', 6, 0xaa, $n;
    my ($from_port, $port) = (1024 + $n % 60000, 1 + ($n * 7919) % 65000);
    if ($mode eq 'connections') {
      ethernet($router, $me, '', 0x0800, udp($own, $outside, $from_port, $port));
      ethernet($router, $me, '', 0x0800, syn($own, $outside, $from_port, $port));
      next;
    }
    my $ip = join '.', 172, 16, ($n >> 8) & 0xff, $n & 0xff;
    ethernet($all, $mac, '', 0x0800, udp($own, $outside, $from_port, $port));
    ethernet($all, $mac, '', 0x0806, arp($mac, $ip, $gateway));
    ethernet($all, $me, '', 0x0806, arp($me, $own, $gateway));
    ethernet($router, $mac, $tags[1 + $n % 6], 0x0800, udp($other, $outside, $from_port, $port));
    for my $to ($gateway, $host, $outside) {
      ethernet($router, $me, '', 0x0800, syn($own, $to, $from_port, $port));
      ethernet($router, $me, '', 0x0800, udp($own, $to, $from_port, $port));
    }
  }
}
print "$written\n";
