// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// comparable compares the unexported fields of netip types, and takes a nil table for an empty one.
func comparable() cmp.Option {
	return cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()}
}

func stateText(t *testing.T, s state.State) string {
	t.Helper()
	return written(t, func(w io.Writer) error { return render.State(w, s) })
}

// full returns sample with rows in the other tables too.
func full() state.State {
	s := sample()
	s.Sysctls = map[state.SysctlName]string{
		"net/ipv4/vs/conntrack": "1", "net/ipv4/tcp_rmem": "4096\t131072 6291456", "net/ipv4/empty": "", "net/odd \"name = \"": "`",
	}
	s.Sets = map[state.SetName]state.Set{
		"KUBE-CLUSTER-IP":    {Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1 << 20, Comment: true},
		"KUBE-6-LOOP-BACK":   {Type: state.HashIPPortIP, Family: state.IPv6, MaxElem: 65536},
		"KUBE-NODE-PORT-TCP": {Type: state.BitmapPort},
		"KUBE-CLUSTER-MARK":  {Type: state.HashIPPort, Family: state.IPv4, MaxElem: 9, Comment: true, Marks: true},
		"nft:KUBE-INSIDE":    {Type: state.MapIPPortToPort, Family: state.IPv4, Comment: true},
		"nft:KUBE-ODD":       {Type: "type 7, length 4, data 0, flags 0x4", Family: state.IPv4, Comment: true},
	}
	s.Entries[entry("nft:KUBE-INSIDE 192.0.2.1,tcp:443")] = state.Entry{Comment: "shop/web:https"}
	s.Entries[entry("KUBE-CLUSTER-MARK 192.0.2.1,tcp:443")] = state.Entry{Comment: "a mark 5", Mark: 1<<32 - 1}
	s.Entries[entry("KUBE-CLUSTER-MARK 192.0.2.2,tcp:443")] = state.Entry{Mark: 1}
	s.Entries[entry("KUBE-ODD 10.96.0.1,tcp:443,10.0.0.0/8")] = state.Entry{Comment: "a \"quoted\" = \\ \n comment"}
	s.Chains = map[state.ChainKey]state.Chain{
		{Family: state.IPv4, Table: state.NAT, Name: "KUBE-SERVICES"}: state.ChainOf(
			`-m comment --comment "a = b" -j KUBE-MARK-MASQ`, "-j  RETURN ", "    -j ODD"),
		{Family: state.IPv6, Table: state.Mangle, Name: "KUBE-EMPTY"}: {},
		{Family: state.IPv4, Table: state.Filter, Name: "KUBE-BLANK"}: {Rules: "\n"},
		{Family: state.IPv4, Table: "nft-nat", Name: "KUBE-SERVICES"}: state.ChainOf(
			"-m set --match-set nft:KUBE-INSIDE dst,dst -j KUBE-INSIDE", "[immediate 1=1; verdict 0]"),
	}
	s.Jumps = map[state.JumpKey]state.Jump{
		{Family: state.IPv4, Table: state.NAT, From: "PREROUTING", To: "KUBE-SERVICES"}: {
			Rule: `-m comment --comment "a = b" -j KUBE-SERVICES`,
		},
		{Family: state.IPv6, Table: "nft-filter", From: "INPUT", To: "KUBE-NODE-PORT"}: {
			Rule: "-j KUBE-NODE-PORT\n[hook {1 0 filter}, drops true, asleep false]\n-j  DROP = x ",
		},
	}
	s.Links = map[state.LinkName]state.Link{state.DummyLink: {Kind: "dummy"}}
	s.Addresses[bound("10.96.0.10")] = state.Binding{Means: state.Routed, Source: netip.MustParseAddr("192.0.2.1")}
	s.Addresses[bound("fd00::2")] = state.Binding{Means: state.Doubled}
	s.VirtualServers[at(state.TCP, "10.96.0.77:1")] = state.VirtualServer{
		Scheduler: "odd scheduler", Flags: 0xffffffff, Timeout: 1<<32 - 1, Prefix: 0, Engine: "odd engine",
	}
	return s
}

// fullText is full as text, with fewer servers.
func fullText() string {
	return `sysctls
  net/ipv4/empty = ""
  net/ipv4/tcp_rmem = "4096\t131072 6291456"
  net/ipv4/vs/conntrack = 1
  "net/odd\x20\"name\x20=\x20\"" = "` + "`" + `"
sets
  KUBE-6-LOOP-BACK = hash:ip,port,ip IPv6 maxelem 65536
  KUBE-CLUSTER-IP = hash:ip,port IPv4 maxelem 1048576 comment
  KUBE-CLUSTER-MARK = hash:ip,port IPv4 maxelem 9 comment marks
  KUBE-NODE-PORT-TCP = bitmap:port
  nft:KUBE-INSIDE = map:ip,port:port IPv4 comment
  nft:KUBE-ODD = "type\x207,\x20length\x204,\x20data\x200,\x20flags\x200x4" IPv4 comment
entries
  KUBE-CLUSTER-IP 10.96.0.1,tcp:443 = "default/kubernetes:https"
  KUBE-CLUSTER-IP 10.96.0.10,udp:53 = "kube-system/kube-dns:dns"
  KUBE-CLUSTER-IP 10.96.9.9,tcp:80 = "default/gone"
  KUBE-CLUSTER-MARK 192.0.2.1,tcp:443 = "a mark 5" mark 4294967295
  KUBE-CLUSTER-MARK 192.0.2.2,tcp:443 = "" mark 1
  KUBE-LOOP-BACK 10.0.0.1,tcp:1 = "not a claim"
  KUBE-NODE-PORT-TCP 443 = "default/other"
  KUBE-NODE-PORT-TCP 30080 = ""
  KUBE-ODD 10.96.0.1,tcp:443,10.0.0.0/8 = "a \"quoted\" = \\ \n comment"
  nft:KUBE-INSIDE 192.0.2.1,tcp:443 = "shop/web:https"
chains
  IPv4 filter KUBE-BLANK
    ` + `
    ` + `
  IPv4 nat KUBE-SERVICES
    -m comment --comment "a = b" -j KUBE-MARK-MASQ
    -j  RETURN ` + `
        -j ODD
  IPv4 nft-nat KUBE-SERVICES
    -m set --match-set nft:KUBE-INSIDE dst,dst -j KUBE-INSIDE
    [immediate 1=1; verdict 0]
  IPv6 mangle KUBE-EMPTY
jumps
  IPv4 nat PREROUTING -> KUBE-SERVICES = -m comment --comment "a = b" -j KUBE-SERVICES
  IPv6 nft-filter INPUT -> KUBE-NODE-PORT = -j KUBE-NODE-PORT
    [hook {1 0 filter}, drops true, asleep false]
    -j  DROP = x ` + `
links
  kube-ipvs0 = dummy
virtual servers
  TCP 10.96.0.1:443 = rr
  UDP 10.96.0.10:53 = wlc flags persistent,ops timeout 60 prefix 24 engine sip
  FWM 4294967295 IPv6 = rr flags 0x102
real servers
  TCP 10.96.0.1:443 -> 192.0.2.1:6443 = Masq weight 1
  TCP 10.96.0.1:443 -> 192.0.2.9:1 = Tunnel weight 0 upper 2 lower 1
addresses
  10.96.0.1
  10.96.0.10 = routed from 192.0.2.1
  10.96.8.8
  fd00::1
  fd00::2 = doubled
`
}

func TestStateIsOneRowALine(t *testing.T) {
	s := full()
	s.VirtualServers = map[state.VirtualServerKey]state.VirtualServer{
		web: s.VirtualServers[web], dns: s.VirtualServers[dns], marked6: {Scheduler: "rr", Prefix: 128, Flags: 0x102},
	}
	s.RealServers = map[state.RealServerKey]state.RealServer{
		webReal1: {Weight: 1}, real(web, "192.0.2.9:1"): {Method: state.Tunnel, Upper: 2, Lower: 1},
	}
	equal(t, stateText(t, s), fullText())
}

func TestStateIsReadBackExactly(t *testing.T) {
	for _, want := range []state.State{{}, state.New(), sample(), full()} {
		text := stateText(t, want)
		got, err := render.ParseState(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if d := cmp.Diff(want, got, comparable()); d != "" {
			t.Errorf("the state read is not the one written:\n%s", d)
		}
		if d := state.Diff(want, got); d.Len() != 0 {
			t.Errorf("the state read differs from the one written by %+v", d)
		}
	}
}

func TestRowsAndSectionsMayComeInAnyOrder(t *testing.T) {
	want := stateText(t, full())
	sections := strings.SplitAfter(strings.ReplaceAll(want, "\n  ", "\x00  "), "\n")
	for range 100 {
		rand.Shuffle(len(sections), func(i, j int) { sections[i], sections[j] = sections[j], sections[i] })
		text := strings.ReplaceAll(strings.Join(sections, ""), "\x00", "\n")
		s, err := render.ParseState(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		equal(t, stateText(t, s), want)
	}
}

func TestStateIsReadStrictly(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"sysctls", "does not end"},
		{"\n", `line 1: "" is neither a row nor the title`},
		{"  a = b\n", "in no section"},
		{"routes\n", "neither a row nor the title"},
		{"sysctls\nsysctls\n", "line 2: section"},
		{"sysctls\n  a = 1\n\n", "line 3"},
		{"sysctls\n  a = 1\n  a = 2\n", "line 3: row a is there twice"},
		{"sysctls\n  a = \"1\"\n", "not written as it should be"},
		{"sysctls\n  a = `1`\n", "not written as it should be"},
		{"sysctls\n  a = \"1\n", "invalid syntax"},
		{"sysctls\n  a\n", `not one line with a " = "`},
		{"sysctls\n  a = 1 \n", "not written as it should be"},
		{"sysctls\r\n", "neither a row nor the title"},
		{"sets\n  S = hash:ip,port IPv4 comment maxelem 5\n", "not written as it should be"},
		{"sets\n  S = hash:ip,port IPv4 maxelem\n", "unexpected EOF"},
		{"sets\n  S = hash:ip,port IPv5\n", "neither IPv4 nor IPv6"},
		{"entries\n  S 10.0.0.1 = x\n", "invalid syntax"},
		{"sets\n  S = hash:ip,port IPv4 marks comment\n", "not written as it should be"},
		{"entries\n  S 10.0.0.1 = \"x\" mark\n", "is not mark and a number"},
		{"entries\n  S 10.0.0.1 = \"x\" note 1\n", "is not mark and a number"},
		{"entries\n  S 10.0.0.1 = \"x\" mark 0\n", "not written as it should be"},
		{"entries\n  S 10.0.0.1 = \"x\" mark 4294967296\n", "out of range"},
		{"entries\n  S 10.0.0.1,TCP:80 = \"x\"\n", "not written as it should be"},
		{"chains\n  IPv4 nat A -j B\n", "is not family, table and name"},
		{"chains\n  IPv4 nat A\n   -j B\n", "neither IPv4 nor IPv6"},
		{"chains\n  IPv4 nat A\n    \n", "not written as it should be"},
		{"jumps\n  IPv4 nat A -> B\n    -j C\n", `not one line with a " = "`},
		{"links\n  a = dummy\n    b\n", `not one line with a " = "`},
		{"links\n  a = dummy\n  a = dummy\n", "there twice"},
		{"virtual servers\n  TCP 10.0.0.1:80 = rr prefix 32\n", "not written as it should be"},
		{"virtual servers\n  TCP 10.0.0.1:80 = rr flags ops,persistent\n", "not written as it should be"},
		{"virtual servers\n  TCP 10.0.0.1:80 = rr flags sh-port\n", "none that is known"},
		{"virtual servers\n  TCP 10.0.0.1:80 = rr timeout\n", "pairs of words"},
		{"virtual servers\n  TCP 10.0.0.1:80 = rr weight 1\n", "none of engine, flags, prefix, timeout"},
		{"virtual servers\n  tcp 10.0.0.1:80 = rr\n", "not written as it should be"},
		{"real servers\n  TCP 10.0.0.1:80 -> 10.0.0.2:80 = Masq\n", "not written as it should be"},
		{"real servers\n  TCP 10.0.0.1:80 -> 10.0.0.2:80 = Masq weight 1 limit 2\n", "none of lower, upper, weight"},
		{"real servers\n  TCP 10.0.0.1:80 -> 10.0.0.2:80 = Masq weight 4294967296\n", "out of range"},
		{"addresses\n  10.0.0.1/32\n", "unexpected character"},
		{"addresses\n  010.0.0.1\n", "leading zero"},
		{"addresses\n  ::1\n    x\n", "unexpected character"},
	} {
		s, err := render.ParseState(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q is read as %+v, error %v, want an error with %q", c.text, s, err, c.want)
		}
	}
}
