// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// iptablesMode is the rules of kube-proxy's iptables mode for one family, as its sync writes them (v1.37).
type iptablesMode struct {
	family  state.Family
	detects bool
	filter  []string
	nat     []string
	chains  []string // of nat, one for each Service port and endpoint
}

// serveByRules writes them for both families.
func (s *stage) serveByRules(t *testing.T) {
	t.Helper()
	for _, f := range families() {
		m := iptablesMode{family: f, detects: s.detects}
		for _, svc := range s.services {
			for _, p := range svc.Ports {
				m.port(svc, p)
			}
		}
		s.feed(t, m.text(), tool(f, "-restore"), "--noflush", "--counters")
	}
}

// text returns the input of iptables-restore: the shared chains, the jumps to them, each on top of those before it, and
// the rules.
func (m *iptablesMode) text() string {
	var b strings.Builder
	line := func(text ...string) {
		for _, l := range text {
			b.WriteString(l + "\n")
		}
	}
	chain := func(names ...string) {
		for _, n := range names {
			line(":" + n + " - [0:0]")
		}
	}
	line("*mangle")
	chain("KUBE-PROXY-CANARY")
	line("COMMIT", "*filter")
	chain("KUBE-PROXY-CANARY", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL")
	const isNew = `-m conntrack --ctstate NEW `
	for _, j := range [][3]string{
		{"INPUT", isNew + `-m comment --comment "kubernetes externally-visible service portals"`, "KUBE-EXTERNAL-SERVICES"},
		{"FORWARD", isNew + `-m comment --comment "kubernetes externally-visible service portals"`, "KUBE-EXTERNAL-SERVICES"},
		{"INPUT", `-m comment --comment "kubernetes health check service ports"`, "KUBE-NODEPORTS"},
		{"FORWARD", isNew + `-m comment --comment "kubernetes service portals"`, "KUBE-SERVICES"},
		{"OUTPUT", isNew + `-m comment --comment "kubernetes service portals"`, "KUBE-SERVICES"},
		{"FORWARD", `-m comment --comment "kubernetes forwarding rules"`, "KUBE-FORWARD"},
		{"INPUT", isNew + `-m comment --comment "kubernetes load balancer firewall"`, "KUBE-PROXY-FIREWALL"},
		{"OUTPUT", isNew + `-m comment --comment "kubernetes load balancer firewall"`, "KUBE-PROXY-FIREWALL"},
		{"FORWARD", isNew + `-m comment --comment "kubernetes load balancer firewall"`, "KUBE-PROXY-FIREWALL"},
	} {
		line("-I " + j[0] + " " + j[1] + " -j " + j[2])
	}
	line(m.filter...)
	line(`-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP`,
		`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT`,
		`-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
		"COMMIT", "*nat")
	chain("KUBE-PROXY-CANARY", "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
	chain(m.chains...)
	for _, j := range [][3]string{
		{"OUTPUT", "kubernetes service portals", "KUBE-SERVICES"},
		{"PREROUTING", "kubernetes service portals", "KUBE-SERVICES"},
		{"POSTROUTING", "kubernetes postrouting rules", "KUBE-POSTROUTING"},
	} {
		line(`-I ` + j[0] + ` -m comment --comment "` + j[1] + `" -j ` + j[2])
	}
	line(`-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN`,
		`-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000`,
		`-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`,
		`-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000`)
	line(m.nat...)
	loopback := "127.0.0.0/8"
	if m.family == state.IPv6 {
		loopback = "::1/128"
	}
	line(`-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"`+
		` -m addrtype --dst-type LOCAL ! -d `+loopback+` -j KUBE-NODEPORTS`, "COMMIT")
	return b.String()
}

// port adds the rules of one port of a Service.
func (m *iptablesMode) port(svc rig.Service, p rig.Port) {
	name := fmt.Sprintf("rig/%s:%s-%d", svc.Name, p.Protocol.Lower(), p.Number)
	proto := p.Protocol.Lower()
	all, local := endpoints(svc, m.family), endpoints(svc, m.family, "node-1")
	at := func(chain string, comment string, a netip.Addr, port uint16) string {
		dst := ""
		if a.IsValid() {
			dst = fmt.Sprintf("-d %v ", a)
		}
		return fmt.Sprintf(`-A %s -m comment --comment "%s" -m %s -p %s %s--dport %d`, chain, comment, proto, proto, dst, port)
	}
	vip := svc.Address(m.family)
	lb := rig.First(m.family, svc.LoadBalancers)
	if len(all) == 0 {
		m.filter = append(m.filter, at("KUBE-SERVICES", name+" has no endpoints", vip, p.Number)+" -j REJECT",
			at("KUBE-EXTERNAL-SERVICES", name+" has no endpoints", netip.Addr{}, p.NodePort)+" -m addrtype --dst-type LOCAL -j REJECT")
		return
	}
	svcChain, svlChain, extChain := hashed("KUBE-SVC-", name+proto), hashed("KUBE-SVL-", name+proto), hashed("KUBE-EXT-", name+proto)
	m.chains = append(m.chains, svcChain, extChain)
	m.nat = append(m.nat, at("KUBE-SERVICES", name+" cluster IP", vip, p.Number)+" -j "+svcChain,
		at("KUBE-NODEPORTS", name, netip.Addr{}, p.NodePort)+" -j "+extChain)
	if lb.IsValid() {
		m.nat = append(m.nat, at("KUBE-SERVICES", name+" loadbalancer IP", lb, p.Number)+" -j "+extChain)
	}
	if m.detects {
		m.nat = append(m.nat, at(svcChain, name+" cluster IP", vip, p.Number)+" ! -s "+podCIDR(m.family)+" -j KUBE-MARK-MASQ")
	}
	m.external(svc, name, extChain, svcChain, svlChain)
	if svc.ExternalLocal && len(local) == 0 {
		no := name + " has no local endpoints"
		m.filter = append(m.filter, at("KUBE-EXTERNAL-SERVICES", no, lb, p.Number)+" -j DROP",
			at("KUBE-EXTERNAL-SERVICES", no, netip.Addr{}, p.NodePort)+" -m addrtype --dst-type LOCAL -j DROP")
	}
	if svc.HealthPort > 0 && svc.ExternalLocal && p.Protocol == state.TCP {
		m.filter = append(m.filter, fmt.Sprintf(`-A KUBE-NODEPORTS -m comment --comment "rig/%s health check node port" -m tcp -p tcp --dport %d -j ACCEPT`, svc.Name, svc.HealthPort))
	}
	m.spread(svc, svcChain, name, proto, all)
	if svc.ExternalLocal && len(local) > 0 {
		m.chains = append(m.chains, svlChain)
		m.spread(svc, svlChain, name, proto, local)
	}
	for _, e := range all {
		m.endpoint(svc, name, proto, e)
	}
}

// external adds the rules for packets to a NodePort or a load balancer's address.
func (m *iptablesMode) external(svc rig.Service, name, ext, svcChain, svlChain string) {
	if !svc.ExternalLocal {
		m.nat = append(m.nat, fmt.Sprintf(`-A %s -m comment --comment "masquerade traffic for %s external destinations" -j KUBE-MARK-MASQ`, ext, name),
			fmt.Sprintf("-A %s -j %s", ext, svcChain))
		return
	}
	if m.detects {
		m.nat = append(m.nat, fmt.Sprintf(`-A %s -m comment --comment "pod traffic for %s external destinations" -s %s -j %s`, ext, name, podCIDR(m.family), svcChain))
	}
	m.nat = append(m.nat,
		fmt.Sprintf(`-A %s -m comment --comment "masquerade LOCAL traffic for %s external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ`, ext, name),
		fmt.Sprintf(`-A %s -m comment --comment "route LOCAL traffic for %s external destinations" -m addrtype --src-type LOCAL -j %s`, ext, name, svcChain))
	if len(endpoints(svc, m.family, "node-1")) > 0 {
		m.nat = append(m.nat, fmt.Sprintf("-A %s -j %s", ext, svlChain))
	}
}

// spread adds rules that choose among endpoints at random, or again the client's last one.
func (m *iptablesMode) spread(svc rig.Service, chain, name, proto string, to []netip.AddrPort) {
	if svc.Sticky {
		for _, e := range to {
			sep := hashed("KUBE-SEP-", name+proto+e.String())
			m.nat = append(m.nat, fmt.Sprintf(`-A %s -m comment --comment "%s -> %v" -m recent --name %s --rcheck --seconds 10800 --reap -j %s`, chain, name, e, sep, sep))
		}
	}
	for i, e := range to {
		chance := ""
		if left := len(to) - i; left > 1 {
			chance = fmt.Sprintf(" -m statistic --mode random --probability %.10f", 1/float64(left))
		}
		m.nat = append(m.nat, fmt.Sprintf(`-A %s -m comment --comment "%s -> %v"%s -j %s`, chain, name, e, chance, hashed("KUBE-SEP-", name+proto+e.String())))
	}
}

func (m *iptablesMode) endpoint(svc rig.Service, name, proto string, e netip.AddrPort) {
	sep := hashed("KUBE-SEP-", name+proto+e.String())
	m.chains = append(m.chains, sep)
	recent := ""
	if svc.Sticky {
		recent = "-m recent --name " + sep + " --set "
	}
	m.nat = append(m.nat, fmt.Sprintf(`-A %s -m comment --comment %s -s %v -j KUBE-MARK-MASQ`, sep, name, e.Addr()),
		fmt.Sprintf(`-A %s -m comment --comment %s %s-m %s -p %s -j DNAT --to-destination %v`, sep, name, recent, proto, proto, e))
}

// endpoints returns those of a family, on all nodes or some.
func endpoints(svc rig.Service, f state.Family, nodes ...string) []netip.AddrPort {
	var list []netip.AddrPort
	for _, e := range svc.Endpoints {
		if len(nodes) > 0 && e.Node != nodes[0] {
			continue
		}
		list = append(list, netip.AddrPortFrom(rig.First(f, e.Addresses), podPort))
	}
	return list
}

// hashed returns kube-proxy's name of a chain.
func hashed(prefix, of string) string {
	sum := sha256.Sum256([]byte(of))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:16]
}
