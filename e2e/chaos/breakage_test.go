// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// web is the Service whose rows are broken.
func web() rig.Service {
	s := dual("web", 10, "pod-a", "pod-b", "pod-d")
	s.Ports[0].NodePort = 30080
	s.Ports = append(s.Ports, rig.Port{Protocol: state.UDP, Number: 53, Target: target})
	return s
}

// sticky is another Service, with session affinity.
func sticky() rig.Service {
	s := dual("sticky", 11, "pod-a", "pod-b")
	s.Sticky = true
	return s
}

// breakage is what an operator or another program does to the rows of kube-ipvs.
type breakage struct {
	name string
	// each is done once for each family, once is done once, both in one shell.
	each, once string
	// replaced is how another program restores its own lost rows, once kube-ipvs has repaired its own.
	replaced string
	// drains marks rows that go only with their connections, which are checked once a second.
	drains bool
}

// words replaces the placeholders of a script by a family's names.
func words(f state.Family) *strings.Replacer {
	bracketed := func(a netip.Addr) string { return strings.TrimSuffix(netip.AddrPortFrom(a, 0).String(), ":0") }
	pod := func(name string) string { return bracketed(rig.Pods(name)[0].Addresses[f/state.IPv6]) }
	list := []string{
		"{vip}", vip(f, 10).String(), "{server}", bracketed(vip(f, 10)), "{bits}", fmt.Sprint(f.Bits()),
		"{sticky}", bracketed(vip(f, 11)), "{new}", vip(f, 99).String(), "{new server}", bracketed(vip(f, 99)),
		"{pod-a}", pod("pod-a"), "{pod-c}", pod("pod-c"),
	}
	if f == state.IPv4 {
		return strings.NewReplacer(append(list, "{iptables}", "iptables", "{KUBE}", "KUBE", "{inet}", "inet", "{-6}", "", "{THEIRS}", "THEIRS",
			"{forwarding}", "net/ipv4/ip_forward", "{their}", "198.51.100", "{their server}", "198.51.100.7")...)
	}
	return strings.NewReplacer(append(list, "{iptables}", "ip6tables", "{KUBE}", "KUBE-6", "{inet}", "inet6", "{-6}", "-6", "{THEIRS}", "THEIRS6",
		"{forwarding}", "net/ipv6/conf/all/forwarding", "{their}", "2001:db8:51:", "{their server}", "[2001:db8:51::7]")...)
}

// perFamily returns a script for both families.
func perFamily(script string) string {
	var text strings.Builder
	for _, f := range families() {
		text.WriteString(words(f).Replace(script) + "\n")
	}
	return text.String()
}

func (b breakage) script() string { return perFamily(b.each) + b.once }

// The rows of another program on the node: a virtual server on an address of its own, one with a firewall mark, a set,
// chains, addresses.
const (
	theirServers = `
ipvsadm -A -t {their server}:80 -s wrr
ipvsadm -a -t {their server}:80 -r {their server}:8080 -g -w 7`
	theirMark    = "\nipvsadm -A -f 7 {-6} -s rr"
	theirSet     = "\nipset create {THEIRS} hash:ip family {inet} comment"
	theirEntry   = "\nipset add {THEIRS} {their}.9 comment theirs"
	theirChains  = theirNATRules + theirFilterRules + theirMangleRules
	theirDevice  = "\nip link add theirs type dummy"
	theirAddress = "\nip addr add {their}.7/{bits} dev theirs\nip addr add {their}.8/{bits} dev lo"
	// onOurs is an address on kube-ipvs0 that no set lists as a Service's.
	onOurs = "\nip addr add {their}.10/{bits} dev kube-ipvs0"

	theirNATRules = `
{iptables} -t nat -N THEIRS 2>/dev/null || true
{iptables} -t nat -A THEIRS -d {their}.9 -j RETURN
{iptables} -t nat -A PREROUTING -j THEIRS`
	theirFilterRules = `
{iptables} -t filter -N THEIRS 2>/dev/null || true
{iptables} -t filter -A THEIRS -d {their}.9 -j ACCEPT
{iptables} -t filter -A INPUT -j THEIRS`
	theirMangleRules = `
{iptables} -t mangle -N THEIRS 2>/dev/null || true
{iptables} -t mangle -A THEIRS -d {their}.9 -j RETURN
{iptables} -t mangle -A OUTPUT -j THEIRS`
)

// spell turns IPv6 addresses that are written with IPv4's dot into real ones.
func spell(script string) string {
	return strings.NewReplacer("2001:db8:51:.", "2001:db8:51::").Replace(script)
}

// wipes are the tools' ways to remove all rows at once.
func wipes() []breakage {
	everything := `
for t in mangle nat filter; do {iptables} -t $t -F; {iptables} -t $t -X; done`
	return []breakage{
		{name: "ipvsadm -C", once: "ipvsadm -C" + perFamily(theirServers+theirMark)},
		{name: "ipset flush", once: "ipset flush" + perFamily(theirEntry)},
		{name: "iptables -t nat -F", each: "{iptables} -t nat -F" + theirNATRules},
		{name: "iptables -t filter -F", each: "{iptables} -t filter -F" + theirFilterRules},
		{name: "iptables -t mangle -F", each: "{iptables} -t mangle -F" + theirMangleRules},
		{name: "kube-ipvs0 deleted", once: "ip link del kube-ipvs0", replaced: onOurs},
		{name: "everything at once",
			each: everything, once: "ipvsadm -C; ipset destroy; ip link del kube-ipvs0",
			replaced: theirServers + theirMark + theirSet + theirEntry + theirNATRules + theirFilterRules + theirMangleRules + onOurs},
	}
}

func serverBreakages() []breakage {
	return []breakage{
		{name: "a virtual server removed", each: "ipvsadm -D -t {server}:80"},
		{name: "a virtual server's scheduler changed", each: "ipvsadm -E -t {server}:80 -s sh"},
		{name: "a virtual server made persistent", each: "ipvsadm -E -u {server}:53 -s rr -p 60"},
		{name: "a virtual server's persistence changed", each: "ipvsadm -E -t {sticky}:80 -s rr -p 60"},
		{name: "a virtual server's flags changed", each: "ipvsadm -E -t {server}:80 -s rr -b flag-1"},
		{name: "a virtual server added, and the entry that makes it ours",
			each: "ipset add {KUBE}-CLUSTER-IP {new},tcp:80\nipvsadm -A -t {new server}:80 -s rr"},
		{name: "a real server removed", each: "ipvsadm -d -t {server}:80 -r {pod-a}:8080"},
		{name: "a real server's weight changed", each: "ipvsadm -e -t {server}:80 -r {pod-a}:8080 -m -w 7"},
		{name: "a real server's weight set to 0", each: "ipvsadm -e -t {server}:80 -r {pod-a}:8080 -m -w 0"},
		{name: "a real server added", each: "ipvsadm -a -t {server}:80 -r {pod-c}:8080 -m", drains: true},
		{name: "a real server of UDP added", each: "ipvsadm -a -u {server}:53 -r {pod-c}:8080 -m"},
	}
}

func setBreakages() []breakage {
	return []breakage{
		{name: "a set entry deleted", each: "ipset del {KUBE}-CLUSTER-IP {vip},tcp:80"},
		{name: "a set entry added", each: "ipset add {KUBE}-CLUSTER-IP {new},tcp:443 comment mine"},
		{name: "a set entry's comment changed", each: "ipset -exist add {KUBE}-CLUSTER-IP {vip},udp:53 comment mine"},
		{name: "a port deleted", each: "ipset del {KUBE}-NODE-PORT-TCP 30080"},
		{name: "a port added", each: "ipset add {KUBE}-NODE-PORT-LOCAL-TCP 30080"},
		{name: "the proof that an address is ours deleted", each: "ipset del {KUBE}-IPVS-IPS {vip}"},
		{name: "a set swapped for one without comments",
			each: `
ipset create {THEIRS}-NEW hash:ip,port family {inet}
ipset add {THEIRS}-NEW {vip},tcp:80
ipset swap {THEIRS}-NEW {KUBE}-CLUSTER-IP
ipset destroy {THEIRS}-NEW`},
		{name: "a set destroyed, and the rules that look into it",
			each: "{iptables} -t filter -F KUBE-IPVS-FILTER\n{iptables} -t nat -F KUBE-INSIDE\nipset destroy {KUBE}-IPVS-IPS"},
	}
}

func ruleBreakages() []breakage {
	return []breakage{
		{name: "a rule deleted", each: "{iptables} -t nat -D KUBE-SERVICES 2"},
		{name: "a rule added", each: "{iptables} -t nat -I KUBE-SERVICES -p tcp --dport 80 -j ACCEPT"},
		{name: "a rule changed", each: "{iptables} -t filter -R KUBE-FORWARD 1 -j DROP"},
		{name: "a chain flushed", each: "{iptables} -t nat -F KUBE-POSTROUTING"},
		{name: "a chain deleted", each: "{iptables} -t filter -D FORWARD -m comment --comment 'kubernetes forwarding rules' -j KUBE-FORWARD\n" +
			"{iptables} -t filter -F KUBE-FORWARD\n{iptables} -t filter -X KUBE-FORWARD"},
		{name: "a jump deleted", each: "{iptables} -t nat -D PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES"},
		{name: "what marks packets deleted", each: "{iptables} -t mangle -F KUBE-NODE-OUTPUT"},
		{name: "a jump added", each: "{iptables} -t filter -I INPUT -p tcp -j KUBE-FORWARD"},
		{name: "a jump changed", each: "{iptables} -t nat -I OUTPUT -p udp -j KUBE-SERVICES\n" +
			"{iptables} -t nat -D OUTPUT -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES"},
	}
}

func linkBreakages() []breakage {
	return []breakage{
		{name: "an address deleted", each: "ip addr del {vip}/{bits} dev kube-ipvs0"},
		{name: "an address added, and the entry that makes it ours",
			each: "ipset add {KUBE}-IPVS-IPS {new}\nip addr add {new}/{bits} dev kube-ipvs0"},
		// The kernel drops the IPv6 addresses of a device that is set down.
		{name: "kube-ipvs0 set up and down", once: "ip link set kube-ipvs0 up; ip link set kube-ipvs0 down",
			replaced: "\nip addr replace {their}.10/{bits} dev kube-ipvs0"},
	}
}

func sysctlBreakages() []breakage {
	return []breakage{
		{name: "forwarding turned off", each: "echo 0 >/proc/sys/{forwarding}"},
		{name: "IPVS's conntrack turned off", once: "echo 0 >/proc/sys/net/ipv4/vs/conntrack"},
		{name: "IPVS's expiry turned off", once: "echo 0 >/proc/sys/net/ipv4/vs/expire_nodest_conn"},
	}
}
