// SPDX-License-Identifier: Apache-2.0

package rule_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestTextIsWhatIPTablesSaves(t *testing.T) {
	for _, s := range spellings() {
		if got := s.rule.Text(s.family); got != s.text {
			t.Errorf("%+v:\n got %s\nwant %s", s.rule, got, s.text)
		}
	}
}

func TestParseReadsWhatTextWrote(t *testing.T) {
	for _, s := range spellings() {
		got, err := rule.Parse(s.family, s.text)
		if err != nil {
			t.Error(err)
		}
		if !reflect.DeepEqual(got, s.rule) {
			t.Errorf("%s:\n got %#v\nwant %#v", s.text, got, s.rule)
		}
	}
}

func TestNFTIsWhatNFTLists(t *testing.T) {
	for _, s := range spellings() {
		for _, table := range []state.RuleTable{state.NAT, state.NAT.On(state.OnNFTables)} {
			if got := s.rule.NFT(s.family, table); got != s.nft {
				t.Errorf("%s:\n got %s\nwant %s", s.text, got, s.nft)
			}
		}
	}
}

func TestToAcceptInNATIsToKeepTheDestination(t *testing.T) {
	r := rule.When(tcp, rule.Port(80)).Then(rule.Accept)
	for table, want := range map[state.RuleTable]string{state.NAT: "dnat to ip daddr", state.Filter: "accept", state.Mangle: "accept"} {
		if got := r.NFT(state.IPv4, table.On(state.OnNFTables)); got != "tcp dport 80 "+want {
			t.Errorf("in %s: %s", table, got)
		}
	}
}

// The text of a rule stands beside it in the kernel, and the comment only if it has room there.
func TestNFTShowsACommentThatHasRoomBesideTheText(t *testing.T) {
	for length, shown := range map[int]bool{110: true, 111: false} {
		r := rule.When(rule.About(strings.Repeat("x", length))).Then(rule.Drop)
		text, want := r.Text(state.IPv4), "drop"
		if shown {
			want += ` comment "` + strings.Repeat("x", length) + `"`
		}
		if got := r.NFT(state.IPv4, state.Filter); got != want || (r.Comment(text) != "") != shown {
			t.Errorf("with a text of %d and a comment of %d bytes: %s", len(text), length, got)
		}
	}
}

// A rule is stored in one spelling, in whatever order it was put together.
func TestWhatIPTablesListsFirstComesFirst(t *testing.T) {
	r := rule.When(rule.About("x"), rule.EchoRequest{}, rule.Via{Interface: "eth0"}, rule.In{Side: rule.Destination, Network: network("10.1.2.3/8")}).Then(rule.Drop)
	const want = `-d 10.0.0.0/8 -i eth0 -p icmp -m comment --comment x -m icmp --icmp-type 8 -j DROP`
	if got := r.Text(state.IPv4); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseRefusesAllElse(t *testing.T) {
	for text, why := range map[string]string{
		"":                                          "no target",
		"-s 10.0.0.0/8":                             "no target",
		"-s fd00::/8 -j DROP":                       "no network of IPv4",
		"-s 10.0.0.1/8 -j DROP":                     `spells it "-s 10.0.0.0/8 -j DROP"`,
		"-p tcp -s 1.0.0.0/8":                       "no target",
		"-p tcp -s 1.0.0.0/8 -j KUBE-X":             `spells it "-s 1.0.0.0/8 -p tcp -j KUBE-X"`,
		"-p gre -j DROP":                            `protocol "gre"`,
		"-p icmp -j DROP":                           `spells it "-j DROP"`,
		"-p icmp -m icmp --icmp-type 0 -j DROP":     `spells it "-p icmp -m icmp --icmp-type 8 -j DROP"`,
		"-o eth0 -j DROP":                           `option "-o"`,
		"! -p tcp -j DROP":                          `"-p" cannot come after !`,
		"-m limit --limit 3/min -j DROP":            `match "limit"`,
		"-m tcp --dport 80 -j DROP":                 "spells it",
		"-p tcp -m tcp --dport 80:90 -j DROP":       `"80:90" is no number`,
		"-p tcp -m tcp --sport 80 -j DROP":          `"--sport" is not --dport`,
		"-m set --match-set KUBE-X dst,src -j DROP": `"dst,src" is none of`,
		"-m set --match-set cali40 dst -j DROP":     `set "cali40"`,
		"-m set --match-set KUBE-X -j DROP":         `"-j" is none of`,
		"-m conntrack --ctstate INVALID -j DROP":    `"INVALID" is none of`,
		"-m addrtype --dst-type MULTICAST -j DROP":  `"MULTICAST" is not LOCAL`,
		"-m mark --mark 0x1/0xffffffff -j DROP":     `spells it "-m mark --mark 0x1 -j DROP"`,
		"-m mark --mark 4294967296 -j DROP":         "is no number",
		"-j LOG":                                    `target "LOG"`,
		"-j cali-INPUT":                             `target "cali-INPUT"`,
		"-j REJECT --reject-with tcp-reset":         `"tcp-reset" is not icmp-port-unreachable`,
		"-j MASQUERADE":                             "ends too early",
		"-j DNAT --to-destination fd00::1":          "no address of IPv4",
		"-j DNAT --to-destination 10.0.0.1:80":      "no address of IPv4",
		"-j NETMAP --to 10.0.0.0/8":                 `"10.0.0.0/8" is not 250.0.0.0/8`,
		"-j DROP -m comment --comment x":            `"-m" comes after the target`,
		"-m comment --comment \"x\" -j DROP":        `spells it "-m comment --comment x -j DROP"`,
		"-m comment --comment":                      "ends too early",
		"-m":                                        "ends too early",
		"!":                                         "ends too early",
		"-j  DROP":                                  "spells it",
	} {
		_, err := rule.Parse(state.IPv4, text)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: error %v, want %s", text, err, why)
		}
	}
}
