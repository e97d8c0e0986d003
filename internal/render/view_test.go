// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"bytes"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func written(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func text(t *testing.T, v render.View, c render.Columns) string {
	t.Helper()
	return written(t, func(w io.Writer) error { return render.Text(w, v, c) })
}

func TestTextIsIpvsadmsWithTheServiceAtTheEnd(t *testing.T) {
	equal(t, text(t, view(), render.Connections), strings.Join([]string{
		"IP Virtual Server version 1.2.1 (size=4096)",
		"Prot LocalAddress:Port Scheduler Flags                              Service",
		"  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
		"TCP  10.96.0.1:443 rr                                               default/kubernetes:https",
		"  -> 192.0.2.1:6443               Masq    1      12         3         ",
		"  -> 192.0.2.2:6443               Masq    0      1          0         ",
		"TCP  172.16.0.5:30080 sh (sh-fallback,sh-port)                      ?",
		"  -> 10.244.1.5:8080              Masq    0      0          0         ",
		"UDP  10.96.0.10:53 wlc persistent 60 mask 255.255.255.0 pe sip ops  kube-system/kube-dns:dns",
		"SCTP 10.200.0.1:80 rr (flag-1,flag-3)                               -",
		"  -> 10.244.1.6:80                Route   65535  0          0         ",
		"TCP  [fd00::1]:443 mh (mh-port) persistent 10800                    -",
		"  -> [fd00:1::5]:8443             Masq    3      0          0         ",
		"FWM  256 lc                                                         ?",
		"  -> 10.244.1.7:0                 Tunnel  1      0          0         ",
		"FWM  4294967295 IPv6 rr persistent 1 mask 64                        ?",
		"",
	}, "\n"))
}

func TestLargeNumbersAreCutLikeIpvsadmsOwn(t *testing.T) {
	v := view().Only(render.Filter{Namespace: "default"})
	equal(t, text(t, v, render.Traffic), strings.Join([]string{
		"IP Virtual Server version 1.2.1 (size=4096)",
		"Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes  Service",
		"  -> RemoteAddress:Port",
		"TCP  10.96.0.1:443                99999999  100000K  999999K    1000M   99999M  default/kubernetes:https",
		"  -> 192.0.2.1:6443                      7        0        0        0  123456K",
		"  -> 192.0.2.2:6443                      0        0        0        0        0",
		"",
	}, "\n"))
	v = view().Only(render.Filter{Namespace: "kube-system"})
	equal(t, text(t, v, render.Traffic), strings.Join([]string{
		"IP Virtual Server version 1.2.1 (size=4096)",
		"Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes  Service",
		"  -> RemoteAddress:Port",
		"UDP  10.96.0.10:53                    100G   99999G     100T18446744T        0  kube-system/kube-dns:dns",
		"",
	}, "\n"))
}

func TestRatesHaveTheirOwnColumns(t *testing.T) {
	v := view().Only(render.Filter{Namespace: "kube-system"})
	equal(t, text(t, v, render.Rates), strings.Join([]string{
		"IP Virtual Server version 1.2.1 (size=4096)",
		"Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS  Service",
		"  -> RemoteAddress:Port",
		"UDP  10.96.0.10:53                       5        4        3        2        1  kube-system/kube-dns:dns",
		"",
	}, "\n"))
}

func TestWideSaysWhatIsUnusual(t *testing.T) {
	got := written(t, func(w io.Writer) error { return render.Wide(w, view()) })
	equal(t, got, strings.Join([]string{
		"SERVICE                   PROT  FAMILY  ADDRESS           SCHEDULER  WEIGHT  ACTIVE  INACTIVE  AFFINITY           FLAGS                SET                 BOUND  NOTES",
		"default/kubernetes:https  TCP   IPv4    10.96.0.1:443     rr         1       13      3         -                  -                    KUBE-CLUSTER-IP     yes    1 of 2 draining",
		"  ->                                    192.0.2.1:6443    Masq       1       12      3                                                                            2 clients with affinity",
		"  ->                                    192.0.2.2:6443    Masq       0       1       0                                                                            draining",
		"?                         TCP   IPv4    172.16.0.5:30080  sh         0       0       0         -                  sh-fallback,sh-port  KUBE-NODE-PORT-TCP  -      all real servers draining",
		"  ->                                    10.244.1.5:8080   Masq       0       0       0                                                                            draining",
		"kube-system/kube-dns:dns  UDP   IPv4    10.96.0.10:53     wlc        0       0       0         60s/255.255.255.0  ops,pe=sip           KUBE-CLUSTER-IP     no     no real servers; address not on kube-ipvs0",
		"-                         SCTP  IPv4    10.200.0.1:80     rr         65535   0       0         -                  flag-1,flag-3        -                   no",
		"  ->                                    10.244.1.6:80     Route      65535   0       0                                                                            connections limited to 100, again below 50",
		"-                         TCP   IPv6    [fd00::1]:443     mh         3       0       0         10800s             mh-port              -                   yes    address on kube-ipvs0 but in no set of ours",
		"  ->                                    [fd00:1::5]:8443  Masq       3       0       0",
		"?                         FWM   IPv4    256               lc         1       0       0         -                  -                    -                   -",
		"  ->                                    10.244.1.7:0      Tunnel     1       0       0",
		"?                         FWM   IPv6    4294967295        rr         0       0       0         1s/64              -                    -                   -      no real servers",
		"",
		"Set entries without a virtual server:",
		"  KUBE-CLUSTER-IP 10.96.9.9,tcp:80  default/gone",
		"",
		"Addresses on kube-ipvs0 without a virtual server:",
		"  10.96.8.8",
		"",
	}, "\n"))
}

func TestWideSaysHowAnAddressIsBound(t *testing.T) {
	s := sample()
	source := netip.MustParseAddr("192.0.2.1")
	for binding, want := range map[state.Binding][2]string{
		{}:                                    {"yes", "1 of 2 draining"},
		{Means: state.Routed, Source: source}: {"routed", "1 of 2 draining"},
		{Means: state.Doubled}:                {"doubled", "1 of 2 draining; both an address and a route: a change from one to the other has not finished"},
	} {
		s.Addresses[bound("10.96.0.1")] = binding
		v := render.Join(s, render.Observed{}, claims).Only(render.Filter{Namespace: "default"})
		got := written(t, func(w io.Writer) error { return render.Wide(w, v) })
		line := strings.Split(got, "\n")[1]
		if end := "KUBE-CLUSTER-IP  " + want[0]; !strings.Contains(line, end) || !strings.HasSuffix(line, want[1]) {
			t.Errorf("%v: %q", binding, line)
		}
		item := render.ListOf(v, render.Connections).Items[0]
		if routed := binding.Means != state.Assigned; (item.Binding != "") != routed || (item.Source == "192.0.2.1") != binding.Source.IsValid() || !*item.Bound {
			t.Errorf("%v: %+v", binding, item)
		}
	}
}

func TestWhatWasNotReadIsUnknown(t *testing.T) {
	s := sample()
	s.Entries, s.Addresses = nil, nil
	for _, server := range render.Join(s, render.Observed{}, claims).VirtualServers {
		if server.Owner.String() != "?" || server.Owner.Ours != render.Unknown {
			t.Errorf("the owner of %v is %q (%v), want it unknown", server.Key, server.Owner, server.Owner.Ours)
		}
		if want := render.Unknown; server.Key.Mark == 0 && server.Bound != want {
			t.Errorf("the address of %v is bound: %v, want %v", server.Key, server.Bound, want)
		}
	}
	s.VirtualServers = nil
	s.Entries, s.Addresses = sample().Entries, sample().Addresses
	if v := render.Join(s, render.Observed{}, claims); !v.Empty() {
		t.Errorf("without virtual servers read, %+v is unserved, want nothing", v.Unserved)
	}
}

func TestANodePortEntryDoesNotSpeakForAnAddressOnTheDummyDevice(t *testing.T) {
	s := state.New()
	s.VirtualServers[web] = state.VirtualServer{Scheduler: "rr"}
	s.Entries[entry("KUBE-NODE-PORT-TCP 443")] = state.Entry{Comment: "default/other"}
	owner := func() string { return render.Join(s, render.Observed{}, claims).VirtualServers[0].Owner.String() }
	if got := owner(); got != "default/other" {
		t.Errorf("the owner of an address of the node is %q, want default/other", got)
	}
	s.Addresses[bound("10.96.0.1")] = state.Binding{}
	if got := owner(); got != "-" {
		t.Errorf("the owner of an address on kube-ipvs0 is %q, want none", got)
	}
}

func TestAVirtualServerBehindAMarkIsTheServicesWhoseEntryGivesTheMark(t *testing.T) {
	mark := testkit.Mark(state.TCP, 30080)
	k := state.MarkKey(state.IPv6, mark)
	s := state.State{
		VirtualServers: map[state.VirtualServerKey]state.VirtualServer{k: {Scheduler: "rr", Prefix: 128}},
		Entries: map[state.SetEntry]state.Entry{
			{Set: "KUBE-6-CLUSTER-MARK", Address: netip.MustParseAddr("2001:db8::7"), Protocol: state.TCP, Port: 80}: {Comment: "shop/web:http", Mark: mark},
			{Set: "KUBE-CLUSTER-MARK", Address: netip.MustParseAddr("192.0.2.7"), Protocol: state.TCP, Port: 80}:     {Comment: "shop/other", Mark: mark},
		},
	}
	v := render.Join(s, render.Observed{}, func(state.VirtualServerKey) []state.SetEntry { return nil })
	want := render.Owner{Ours: render.Yes, Set: "KUBE-6-CLUSTER-MARK", Service: "shop/web:http"}
	if got := v.VirtualServers[0].Owner; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLimitsThatWereReadApartAreShown(t *testing.T) {
	seen := render.Observed{Limits: map[state.RealServerKey]render.Limits{webReal1: {Upper: 9, Lower: 8}}}
	v := render.Join(sample(), seen, claims)
	if got := v.VirtualServers[0].RealServers[0].Row; got.Upper != 9 || got.Lower != 8 {
		t.Errorf("the limits are %d and %d, want 9 and 8", got.Upper, got.Lower)
	}
}

func TestFiltersKeepWhatMatchesAllOfThem(t *testing.T) {
	address := netip.MustParseAddr
	for _, c := range []struct {
		name     string
		filter   render.Filter
		servers  []state.VirtualServerKey
		unserved string
	}{
		{"a namespace", render.Filter{Namespace: "kube-system"}, []state.VirtualServerKey{dns}, ""},
		{"a namespace with an entry left over", render.Filter{Namespace: "default"}, []state.VirtualServerKey{web}, "10.96.9.9,tcp:80"},
		{"a name", render.Filter{Name: "kubernetes"}, []state.VirtualServerKey{web}, ""},
		{"a name and a port that it has not", render.Filter{Name: "kubernetes", PortName: "http"}, nil, ""},
		{"a name and a port", render.Filter{Name: "kube-dns", PortName: "dns"}, []state.VirtualServerKey{dns}, ""},
		{"an address", render.Filter{Address: address("10.96.0.1")}, []state.VirtualServerKey{web}, ""},
		{"an address and port", render.Filter{Address: address("10.96.0.1"), Port: 443}, []state.VirtualServerKey{web}, ""},
		{"an address and another port", render.Filter{Address: address("10.96.0.1"), Port: 80}, nil, ""},
		{"a real server's address", render.Filter{Address: address("10.244.1.7")}, []state.VirtualServerKey{marked}, ""},
		{"an IPv6 address", render.Filter{Address: address("fd00::1")}, []state.VirtualServerKey{sticky}, ""},
		{"the address of no mark", render.Filter{Address: address("0.0.0.0")}, nil, ""},
		{"an address left over", render.Filter{Address: address("10.96.8.8")}, nil, "10.96.8.8"},
		{"an entry left over", render.Filter{Address: address("10.96.9.9"), Protocol: state.TCP}, nil, "10.96.9.9,tcp:80"},
		{"a protocol", render.Filter{Protocol: state.UDP}, []state.VirtualServerKey{dns}, ""},
		{"a protocol and a namespace", render.Filter{Protocol: state.TCP, Namespace: "kube-system"}, nil, ""},
	} {
		only := view().Only(c.filter)
		var got []state.VirtualServerKey
		for _, s := range only.VirtualServers {
			got = append(got, s.Key)
		}
		var unserved []string
		for _, e := range only.Unserved.Entries {
			unserved = append(unserved, e.Key.Member())
		}
		for _, a := range only.Unserved.Addresses {
			unserved = append(unserved, a.String())
		}
		if !slices.Equal(got, c.servers) || strings.Join(unserved, " ") != c.unserved {
			t.Errorf("%s finds %v and %q unserved, want %v and %q", c.name, got, unserved, c.servers, c.unserved)
		}
		if only.Empty() != (len(got)+len(unserved) == 0) {
			t.Errorf("%s: Empty is %v", c.name, only.Empty())
		}
	}
	if all := view().Only(render.Filter{}); len(all.VirtualServers) != 7 || len(all.Unserved.Addresses) != 1 {
		t.Errorf("no filter keeps %d virtual servers and %d addresses, want 7 and 1", len(all.VirtualServers), len(all.Unserved.Addresses))
	}
}
