// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// ipvsScript tries what this project's tests need of a kernel, in both families, and modules that load only on demand.
const ipvsScript = `
ip link add kube-ipvs0 type dummy
ip link add v0 type veth peer name v1
ip link add br0 type bridge
ip address add 10.96.0.1/32 dev kube-ipvs0
ip -6 address add fd00::1/128 dev kube-ipvs0 nodad

ipvsadm -A -t 10.96.0.1:80 -s sh -b sh-port
ipvsadm -a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 3
ipvsadm -A -u '[fd00::1]:53' -s mh
ipvsadm -a -u '[fd00::1]:53' -r '[fd00:1::2]:5353' -m
ipvsadm --add-service --sctp-service 10.96.0.1:7 -s rr
ipvsadm -A -f 7 -s wrr
ipvsadm -Sn

ipset create S4 hash:ip,port skbinfo comment
ipset add S4 10.96.0.1,tcp:80 skbmark 0x10 comment "ns/name:port"
ipset create S6 hash:ip,port,ip family inet6
ipset create P bitmap:port range 0-65535
ipset save

iptables -V
for t in iptables ip6tables; do
  $t -t nat -N KUBE-SERVICES
  $t -t nat -A PREROUTING -m comment --comment "a b" -j KUBE-SERVICES
  $t -t nat -A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
  $t -A FORWARD -m conntrack --ctstate INVALID -j DROP
  $t -A INPUT -m ipvs --ipvs -j REJECT
  $t-save | $t-restore --noflush
done
iptables -t mangle -A OUTPUT -j SET --map-set S4 dst,dst --map-mark
ip6tables -t nat -A POSTROUTING -m set --match-set S6 dst,dst,src -j MASQUERADE
iptables -t mangle -S OUTPUT
ip6tables -t nat -S POSTROUTING

modprobe -va ip_vs xt_statistic
conntrack -L
sysctl -n net.ipv4.vs.conn_reuse_mode net.netfilter.nf_conntrack_max
`

func wantLines(t *testing.T, got string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+got, "\n"+l) {
			t.Errorf("no line %q in:\n%s", l, got)
		}
	}
}

func TestTools(t *testing.T) {
	b := newBench(t)
	wantLines(t, b.shell(ipvsScript),
		"-A -t 10.96.0.1:80 -s sh -b sh-port", "-a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 3",
		"-A -u [fd00::1]:53 -s mh", "-a -u [fd00::1]:53 -r [fd00:1::2]:5353 -m -w 1",
		"-A -f 7 -s wrr",
		`add S4 10.96.0.1,tcp:80 comment "ns/name:port" skbmark 0x10`,
		"iptables v1.", "-A OUTPUT -j SET --map-set S4 dst,dst --map-mark",
		"-A POSTROUTING -m set --match-set S6 dst,dst,src -j MASQUERADE",
		"-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully",
		"insmod /run/lab/lib/modules/",
	)
	if !strings.Contains(b.stdout.String(), "(legacy)") {
		t.Error("iptables is not the legacy one")
	}
}

// nftScript makes tables of all families, and rules with the expressions of service proxies.
const nftScript = `
for family in ip ip6 inet arp bridge netdev; do nft add table $family lab; done
nft -f - <<'EOF'
table inet lab {
  set ports { type inet_service; flags interval; elements = { 30000-32767 } }
  set nodes { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
  set affinity { type ipv4_addr; flags dynamic,timeout; timeout 3h; }
  map services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.1 . tcp . 443 : goto refuse } }
  chain refuse { reject with icmpx admin-prohibited; }
  chain choose {
    update @affinity { ip saddr }
    jhash ip saddr mod 2 vmap { 0 : accept }
    numgen random mod 2 vmap { 0 : accept, 1 : drop }
  }
  chain services {
    ip daddr . meta l4proto . th dport vmap @services
    fib daddr type local meta mark set mark or 0x4000
    ct state related,established ct direction original ct mark set 1 notrack
    limit rate 1/second log prefix "x" group 3 counter
    socket transparent 1 accept
  }
  chain prerouting { type nat hook prerouting priority dstnat; jump services; ip protocol tcp dnat ip to 10.0.0.1:80; }
  chain postrouting { type nat hook postrouting priority srcnat; meta mark & 0x4000 != 0 masquerade fully-random; }
}
EOF
nft list chain inet lab postrouting
iptables -V
ipset create S hash:ip
iptables -t nat -A POSTROUTING -m statistic --mode random --probability 0.5 -m physdev --physdev-is-bridged -m set --match-set S src -j MASQUERADE
iptables -t nat -S POSTROUTING
cat /proc/net/ip_vs_status
modprobe -a ip_vs nf_conntrack xt_set && echo built in
modprobe no_such_module || echo not built in
`

// A kernel of today has nf_tables for all families, iptables on it, and IPVS's tables that grow.
func TestTheNewestKernelHasNFTables(t *testing.T) {
	b := newBenchOn(t, "7")
	wantLines(t, b.shell(nftScript),
		"\t\tmeta mark & 0x00004000 != 0x00000000 masquerade fully-random", "iptables v1.", "-A POSTROUTING -m statistic --mode random",
		"Conn buckets:", "built in\n", "not built in\n")
	if !strings.Contains(b.stdout.String(), "(nf_tables)") {
		t.Error("iptables is not the one on nf_tables")
	}
}

func TestTheNewestKernelCanDoWithLegacyIptables(t *testing.T) {
	b := newBenchOn(t, "7", envIptables+"=legacy")
	out := b.shell(strings.ReplaceAll(ipvsScript, "modprobe -va", "modprobe -a"))
	wantLines(t, out, "-A -t 10.96.0.1:80 -s sh -b sh-port", "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully")
	if !strings.Contains(out, "(legacy)") {
		t.Error("iptables is not the legacy one")
	}
}

// The guest starts with lo alone, up, in both families.
func TestLinksAtStart(t *testing.T) {
	for _, kernel := range []string{kernelUML, "7"} {
		t.Run(kernel, func(t *testing.T) {
			b := newBenchOn(t, kernel)
			out := b.shell("ip -o address; echo links:; ip -o link | wc -l")
			wantLines(t, strings.Join(strings.Fields(out), "\n"), "127.0.0.1/8", "::1/128", "links:\n1")
		})
	}
}

// Named network namespaces work, each with an IPVS of its own.
func TestNamedNamespaces(t *testing.T) {
	b := newBench(t)
	out := b.shell(`
ip netns add one
ip netns add two
ip netns exec one ip link set lo up
ip netns exec one ipvsadm -A -t 10.0.0.1:80 -s rr
ip netns exec one iptables -t nat -A OUTPUT -j ACCEPT
ip link add v1 netns one type veth peer name v2 netns two
ip netns list
echo in one: $(ip netns exec one ipvsadm -Sn)
echo in two: $(ip netns exec two ipvsadm -Sn)
ip netns exec two ip -o link show v2
ip netns delete two
ls /run/netns
`)
	wantLines(t, out, "in one: -A -t 10.0.0.1:80 -s rr\n", "in two:\n", "one\n")
	if strings.HasSuffix(out, "two\n") {
		t.Errorf("two is still there:\n%s", out)
	}
}

// A packet really goes through IPVS: a connection to a virtual address is answered by the real server.
func TestTrafficIsBalanced(t *testing.T) {
	b := newBench(t)
	out := b.shell(`
ip link add kube-ipvs0 type dummy
for f in "10.0.0.1 127.0.0.1" "[fd00::1] [::1]"; do
  set -- $f
  ip address add $(echo $1 | tr -d '[]') dev kube-ipvs0 $(test $1 = 10.0.0.1 || echo nodad)
  ipvsadm -A -t $1:80 -s rr
  ipvsadm -a -t $1:80 -r $2:8080 -m
done
cat >/run/serve <<'EOF'
#!/bin/sh
printf 'HTTP/1.0 200 OK\r\n\r\nserved\n'
EOF
chmod +x /run/serve
perl -MIO::Socket::IP -e '
  $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 8080, Listen => 5, V6Only => 0, ReuseAddr => 1) or die $@;
  open(F, ">/run/ready"); close F;
  while ($c = $s->accept) { sysread $c, $b, 4096; print $c "HTTP/1.0 200 OK\r\n\r\nserved\n"; close $c }' &
while [ ! -e /run/ready ]; do sleep 0.1; done
curl -sS -m 20 http://10.0.0.1/
curl -sS -m 20 'http://[fd00::1]/'
`)
	if out != "served\nserved\n" {
		t.Errorf("stdout is %q\nstderr is %s", out, &b.stderr)
	}
}
