// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// ipvsMode is what kube-proxy's IPVS mode has of one family, as its sync makes it (v1.37).
type ipvsMode struct {
	family  state.Family
	detects bool
	nodes   []netip.Addr // where NodePorts are
	sets    map[string][]string
	servers []string // for ipvsadm --restore
	bound   []netip.Addr
}

// itsSets returns kube-proxy's sets and their types, in the order in which it makes them.
func itsSets() [][2]string {
	return [][2]string{
		{"LOOP-BACK", "hash:ip,port,ip"}, {"CLUSTER-IP", "hash:ip,port"}, {"EXTERNAL-IP", "hash:ip,port"},
		{"EXTERNAL-IP-LOCAL", "hash:ip,port"}, {"LOAD-BALANCER", "hash:ip,port"}, {"LOAD-BALANCER-FW", "hash:ip,port"},
		{"LOAD-BALANCER-LOCAL", "hash:ip,port"}, {"LOAD-BALANCER-SOURCE-IP", "hash:ip,port,ip"},
		{"LOAD-BALANCER-SOURCE-CIDR", "hash:ip,port,net"}, {"NODE-PORT-TCP", "bitmap:port"},
		{"NODE-PORT-LOCAL-TCP", "bitmap:port"}, {"NODE-PORT-UDP", "bitmap:port"}, {"NODE-PORT-LOCAL-UDP", "bitmap:port"},
		{"NODE-PORT-SCTP-HASH", "hash:ip,port"}, {"NODE-PORT-LOCAL-SCTP-HASH", "hash:ip,port"},
		{"HEALTH-CHECK-NODE-PORT", "bitmap:port"}, {"IPVS-IPS", "hash:ip"},
	}
}

// set returns kube-proxy's name of a set.
func (m *ipvsMode) set(name string) string {
	if m.family == state.IPv4 {
		return "KUBE-" + name
	}
	name = "KUBE-6-" + name
	return name[:min(len(name), 31)]
}

// creates returns the commands by which kube-proxy makes its sets, at every sync. One that fails ends the sync.
func (m *ipvsMode) creates() []string {
	var list []string
	for _, s := range itsSets() {
		options := "range 0-65535"
		if s[1] != "bitmap:port" {
			family := "inet"
			if m.family == state.IPv6 {
				family = "inet6"
			}
			options = "family " + family + " hashsize 1024 maxelem 65536"
		}
		list = append(list, fmt.Sprintf("create %s %s %s -exist", m.set(s[0]), s[1], options))
	}
	return list
}

func (m *ipvsMode) enter(set, entry string) { m.sets[set] = append(m.sets[set], entry) }

// serveByServers makes what kube-proxy's IPVS mode would have made.
func (s *stage) serveByServers(t *testing.T) {
	t.Helper()
	s.run(t, "node-1", "sh", "-euc", `
cd /proc/sys/net/ipv4/vs
echo 1 > conntrack; echo 1 > expire_nodest_conn; echo 1 > expire_quiescent_template
ip link add kube-ipvs0 type dummy`)
	for _, f := range families() {
		m := s.ipvsMode(t, f)
		s.feed(t, m.setText(), "ipset", "restore")
		s.feed(t, strings.Join(m.servers, "\n")+"\n", "ipvsadm", "--restore")
		for _, a := range m.bound {
			s.run(t, "node-1", "ip", "addr", "add", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "kube-ipvs0")
		}
		s.feed(t, m.rules(), tool(f, "-restore"), "--noflush", "--counters")
	}
}

func (s *stage) ipvsMode(t *testing.T, f state.Family) *ipvsMode {
	t.Helper()
	m := &ipvsMode{family: f, detects: s.detects, sets: map[string][]string{}}
	for _, a := range s.Addresses(t) {
		if state.FamilyOf(a) == f {
			m.nodes = append(m.nodes, a)
		}
	}
	for _, svc := range s.services {
		for _, p := range svc.Ports {
			m.port(svc, p)
		}
	}
	return m
}

func (m *ipvsMode) setText() string {
	lines := m.creates()
	for _, s := range itsSets() {
		entries := m.sets[s[0]]
		slices.Sort(entries)
		for _, e := range slices.Compact(entries) {
			lines = append(lines, fmt.Sprintf("add %s %s -exist", m.set(s[0]), e))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func (m *ipvsMode) port(svc rig.Service, p rig.Port) {
	all, local := endpoints(svc, m.family), endpoints(svc, m.family, "node-1")
	at := func(a netip.Addr, port uint16) string { return fmt.Sprintf("%v,%s:%d", a, p.Protocol.Lower(), port) }
	for _, e := range local {
		m.enter("LOOP-BACK", at(e.Addr(), e.Port())+","+e.Addr().String())
	}
	outside := all
	if svc.ExternalLocal && len(local) > 0 { // without any, clients from outside get all: its own way
		outside = local
	}
	vip := svc.Address(m.family)
	m.enter("CLUSTER-IP", at(vip, p.Number))
	m.serve(svc, p, netip.AddrPortFrom(vip, p.Number), all)
	m.bind(vip)
	for _, lb := range svc.LoadBalancers {
		if state.FamilyOf(lb) != m.family {
			continue
		}
		m.enter("LOAD-BALANCER", at(lb, p.Number))
		if svc.ExternalLocal {
			m.enter("LOAD-BALANCER-LOCAL", at(lb, p.Number))
		}
		m.serve(svc, p, netip.AddrPortFrom(lb, p.Number), outside)
		m.bind(lb)
	}
	m.enter("NODE-PORT-"+p.Protocol.String(), fmt.Sprint(p.NodePort))
	if svc.ExternalLocal {
		m.enter("NODE-PORT-LOCAL-"+p.Protocol.String(), fmt.Sprint(p.NodePort))
		m.enter("HEALTH-CHECK-NODE-PORT", fmt.Sprint(svc.HealthPort))
	}
	for _, a := range m.nodes {
		m.serve(svc, p, netip.AddrPortFrom(a, p.NodePort), outside)
	}
}

func (m *ipvsMode) bind(a netip.Addr) {
	if !slices.Contains(m.bound, a) {
		m.bound = append(m.bound, a)
		m.enter("IPVS-IPS", a.String())
	}
}

func (m *ipvsMode) serve(svc rig.Service, p rig.Port, at netip.AddrPort, to []netip.AddrPort) {
	option := "-" + p.Protocol.Lower()[:1] // -t, -u
	affinity := ""
	if svc.Sticky {
		affinity = " -p 10800"
	}
	m.servers = append(m.servers, fmt.Sprintf("-A %s %v -s rr%s", option, at, affinity))
	for _, e := range to {
		m.servers = append(m.servers, fmt.Sprintf("-a %s %v -r %v -m -w 1", option, at, e))
	}
}

// rules returns the chains of kube-proxy's IPVS mode.
func (m *ipvsMode) rules() string {
	mark, loopback := "", "127.0.0.0/8"
	if m.family == state.IPv6 {
		loopback = "::1/128"
	}
	set := func(name string, not ...string) string {
		return "-m set " + strings.Join(append(not, "--match-set "+m.set(name)), " ")
	}
	mark = set("CLUSTER-IP") + " src,dst"
	if m.detects {
		mark = set("CLUSTER-IP") + " dst,dst ! -s " + podCIDR(m.family)
	}
	lines := []string{
		"*nat", ":KUBE-SERVICES - [0:0]", ":KUBE-POSTROUTING - [0:0]", ":KUBE-NODE-PORT - [0:0]", ":KUBE-LOAD-BALANCER - [0:0]", ":KUBE-MARK-MASQ - [0:0]",
		`-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`,
		`-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`,
		`-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING`,
		`-A KUBE-SERVICES -s ` + loopback + ` -j RETURN`,
		`-A KUBE-SERVICES -m comment --comment "Kubernetes service lb portal" ` + set("LOAD-BALANCER") + ` dst,dst -j KUBE-LOAD-BALANCER`,
		`-A KUBE-SERVICES -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" ` + mark + ` -j KUBE-MARK-MASQ`,
		`-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT`,
		`-A KUBE-SERVICES ` + set("CLUSTER-IP") + ` dst,dst -j ACCEPT`,
		`-A KUBE-SERVICES ` + set("LOAD-BALANCER") + ` dst,dst -j ACCEPT`,
		`-A KUBE-LOAD-BALANCER -m comment --comment "Kubernetes service load balancer ip + port with externalTrafficPolicy=local" ` + set("LOAD-BALANCER-LOCAL") + ` dst,dst -j RETURN`,
		`-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ`,
		`-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port with externalTrafficPolicy=local" ` + set("NODE-PORT-LOCAL-TCP") + ` dst -j RETURN`,
		`-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" ` + set("NODE-PORT-TCP") + ` dst -j KUBE-MARK-MASQ`,
		`-A KUBE-NODE-PORT -p udp -m comment --comment "Kubernetes nodeport UDP port with externalTrafficPolicy=local" ` + set("NODE-PORT-LOCAL-UDP") + ` dst -j RETURN`,
		`-A KUBE-NODE-PORT -p udp -m comment --comment "Kubernetes nodeport UDP port for masquerade purpose" ` + set("NODE-PORT-UDP") + ` dst -j KUBE-MARK-MASQ`,
		`-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000`,
		`-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" ` + set("LOOP-BACK") + ` dst,dst,src -j MASQUERADE`,
		`-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN`,
		`-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000`,
		`-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`,
		"COMMIT",
		"*filter", ":KUBE-FORWARD - [0:0]", ":KUBE-NODE-PORT - [0:0]", ":KUBE-PROXY-FIREWALL - [0:0]", ":KUBE-SOURCE-RANGES-FIREWALL - [0:0]",
		":KUBE-IPVS-FILTER - [0:0]", ":KUBE-IPVS-OUT-FILTER - [0:0]",
		`-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD`,
		`-I INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT`,
		`-I INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL`,
		`-I FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL`,
		`-I INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER`,
		`-I OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER`,
		`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT`,
		`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
		`-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" ` + set("HEALTH-CHECK-NODE-PORT") + ` dst -j ACCEPT`,
		`-A KUBE-SOURCE-RANGES-FIREWALL -j DROP`,
	}
	for _, allowed := range []string{"LOAD-BALANCER", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL"} {
		lines = append(lines, `-A KUBE-IPVS-FILTER `+set(allowed)+` dst,dst -j RETURN`)
	}
	lines = append(lines, `-A KUBE-IPVS-FILTER `+set("HEALTH-CHECK-NODE-PORT")+` dst -j RETURN`,
		`-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW `+set("IPVS-IPS")+` dst -j REJECT`, "COMMIT")
	return strings.Join(lines, "\n") + "\n"
}
