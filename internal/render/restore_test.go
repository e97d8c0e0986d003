// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"io"
	"net/netip"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// desired returns a row or two of each table that has a form for a tool.
func desired() state.State {
	s := state.New()
	s.Sysctls = map[state.SysctlName]string{"net/ipv4/vs/conntrack": "1", "net/ipv4/ip_forward": "1", state.UDPTimeout: "300"}
	s.Sets = map[state.SetName]state.Set{
		"KUBE-CLUSTER-MARK":  {Type: state.HashIPPort, Family: state.IPv4, MaxElem: 9, Comment: true, Marks: true},
		"KUBE-6-LOOP-BACK":   {Type: state.HashIPPortIP, Family: state.IPv6, MaxElem: 65536},
		"KUBE-NODE-PORT-TCP": {Type: state.BitmapPort, Comment: true},
	}
	s.Entries = map[state.SetEntry]state.Entry{
		entry("KUBE-CLUSTER-MARK 192.0.2.1,sctp:443"):    {Comment: "shop/web", Mark: 0x4b400001},
		entry("KUBE-6-LOOP-BACK fd00::1,udp:53,fd00::1"): {},
		entry("KUBE-NODE-PORT-TCP 30080"):                {Comment: "shop/web:http"},
	}
	s.Chains = map[state.ChainKey]state.Chain{
		{Family: state.IPv4, Table: state.NAT, Name: "KUBE-SERVICES"}:  state.ChainOf("-j KUBE-MARK-MASQ", "-j RETURN"),
		{Family: state.IPv4, Table: state.NAT, Name: "KUBE-MARK-MASQ"}: state.ChainOf("-j MARK --set-xmark 0x4000/0x4000"),
		{Family: state.IPv4, Table: state.Mangle, Name: "KUBE-EMPTY"}:  {},
		{Family: state.IPv6, Table: state.Filter, Name: "KUBE-OTHER"}:  state.ChainOf("-j ACCEPT"),
	}
	s.Jumps = map[state.JumpKey]state.Jump{
		{Family: state.IPv4, Table: state.NAT, From: "PREROUTING", To: "KUBE-SERVICES"}: {Rule: `-m comment --comment "a" -j KUBE-SERVICES`},
		{Family: state.IPv6, Table: state.Filter, From: "INPUT", To: "KUBE-OTHER"}:      {Rule: "-j KUBE-OTHER"},
	}
	s.Links = map[state.LinkName]state.Link{state.DummyLink: {Kind: "dummy"}}
	s.Addresses = map[state.Address]state.Binding{
		bound("10.96.0.1"): {}, bound("fd00::1"): {}, bound("10.96.0.3"): {MTU: 1500},
		bound("10.96.0.2"): {Means: state.Routed, Source: netip.MustParseAddr("192.0.2.1"), MTU: 1400}, bound("fd00::2"): {Means: state.Routed},
	}
	return s
}

func TestEachToolGetsItsTables(t *testing.T) {
	rules := func(f state.Family) func(io.Writer, state.State) error {
		return func(w io.Writer, s state.State) error { return render.Rules(w, s, f) }
	}
	for name, c := range map[string]struct {
		write func(io.Writer, state.State) error
		want  string
	}{
		"ipset": {render.Sets, `create KUBE-6-LOOP-BACK hash:ip,port,ip family inet6 maxelem 65536
create KUBE-CLUSTER-MARK hash:ip,port family inet maxelem 9 comment skbinfo
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535 comment
add KUBE-6-LOOP-BACK fd00::1,udp:53,fd00::1
add KUBE-CLUSTER-MARK 192.0.2.1,sctp:443 comment "shop/web" skbmark 0x4b400001
add KUBE-NODE-PORT-TCP 30080 comment "shop/web:http"
`},
		"iptables": {rules(state.IPv4), `*mangle
:KUBE-EMPTY - [0:0]
COMMIT
*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-SERVICES - [0:0]
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -j KUBE-MARK-MASQ
-A KUBE-SERVICES -j RETURN
-I PREROUTING 1 -m comment --comment "a" -j KUBE-SERVICES
COMMIT
`},
		"ip6tables": {rules(state.IPv6), `*filter
:KUBE-OTHER - [0:0]
-A KUBE-OTHER -j ACCEPT
-I INPUT 1 -j KUBE-OTHER
COMMIT
`},
		"timeouts": {render.Timeouts, "--set 0 0 300\n"},
		"sysctl":   {render.Sysctls, "net/ipv4/ip_forward = 1\nnet/ipv4/vs/conntrack = 1\n"},
		"ip": {render.Links, `link add kube-ipvs0 type dummy
address add 127.0.0.73/32 dev kube-ipvs0 scope host
link set kube-ipvs0 addrgenmode none
link set kube-ipvs0 up
address add 10.96.0.1/32 dev kube-ipvs0
route add local 10.96.0.2/32 dev kube-ipvs0 table local protocol 73 scope host metric 1024 src 192.0.2.1 mtu 1400
address add 10.96.0.3/32 dev kube-ipvs0
route prepend local 10.96.0.3/32 dev kube-ipvs0 table local protocol 73 scope host mtu 1500
address add fd00::1/128 dev kube-ipvs0
route add local fd00::2/128 dev kube-ipvs0 table local protocol 73 scope host metric 1024
`},
	} {
		t.Run(name, func(t *testing.T) {
			equal(t, written(t, func(w io.Writer) error { return c.write(w, desired()) }), c.want)
			if text := written(t, func(w io.Writer) error { return c.write(w, state.New()) }); text != "" {
				t.Errorf("of nothing: %q", text)
			}
		})
	}
}
