// SPDX-License-Identifier: Apache-2.0

package rule_test

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Whatever is read is read again from what Text makes of it, and any rule of ours can be read.
func FuzzParse(f *testing.F) {
	for _, s := range spellings() {
		f.Add(s.text, s.family == state.IPv6, []byte(s.text))
	}
	f.Fuzz(func(t *testing.T, text string, v6 bool, parts []byte) {
		family := state.IPv4
		if v6 {
			family = state.IPv6
		}
		if r, err := rule.Parse(family, text); err == nil && r.Text(family) != text {
			t.Errorf("%q is read, but written as %q", text, r.Text(family))
		}
		want := ruleOf(parts, family)
		got, err := rule.Parse(family, want.Text(family))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %#v, error %v\nwant %#v", want.Text(family), got, err, want)
		}
		_ = want.NFT(family, state.NAT)
	})
}

// dice makes choices by bytes; with no byte left it always chooses the first.
type dice struct {
	bytes  []byte
	family state.Family
}

func (d *dice) roll(n int) int {
	if len(d.bytes) == 0 {
		return 0
	}
	b := d.bytes[0]
	d.bytes = d.bytes[1:]
	return int(b) % n
}

func (d *dice) bool() bool { return d.roll(2) == 1 }

func (d *dice) number() uint16 { return uint16(d.roll(256))<<8 | uint16(d.roll(256)) }

func (d *dice) address() netip.Addr {
	if d.family == state.IPv6 {
		return netip.AddrFrom16([16]byte{0xfd, 2: byte(d.roll(256)), 15: byte(d.roll(256))})
	}
	return netip.AddrFrom4([4]byte{10, byte(d.roll(256)), byte(d.roll(256)), byte(d.roll(256))})
}

// ruleOf is one of our rules, with its matches in the order in which iptables-save lists them.
func ruleOf(bytes []byte, f state.Family) rule.Rule {
	d := &dice{bytes, f}
	var matches []rule.Match
	for _, side := range []rule.Side{rule.Source, rule.Destination} {
		if d.bool() {
			matches = append(matches, rule.In{Side: side, Network: netip.PrefixFrom(d.address(), 1+d.roll(f.Bits())).Masked(), Not: d.bool()})
		}
	}
	if d.bool() {
		matches = append(matches, rule.Via{Interface: "eth0"[:1+d.roll(4)], Begins: d.bool(), Not: d.bool()})
	}
	hasProtocol := d.bool()
	if hasProtocol {
		matches = append(matches, rule.Proto([]state.Protocol{state.TCP, state.UDP, state.SCTP}[d.roll(3)]))
	} else if d.bool() {
		matches = append(matches, rule.EchoRequest{})
	}
	for range d.roll(4) {
		matches = append(matches, d.match(hasProtocol))
	}
	return rule.When(matches...).Then(d.verdict())
}

func (d *dice) match(hasProtocol bool) rule.Match {
	switch d.roll(6) {
	case 0:
		return rule.About(d.bytes[:d.roll(1+len(d.bytes))])
	case 1:
		name := state.SetInside.For(d.family).On(state.Firewalls()[d.roll(2)])
		return rule.Member{Set: name, Of: rule.Parts(d.roll(int(rule.From) + 1)), Not: d.bool()}
	case 2:
		return rule.Local(d.roll(2))
	case 3:
		return rule.Tracked(d.roll(int(rule.Translated) + 1))
	case 4:
		if hasProtocol {
			return rule.Port(d.number())
		}
	}
	return rule.Marked{Value: uint32(d.number()), Mask: uint32(d.number()) << d.roll(17), Not: d.bool()}
}

func (d *dice) verdict() rule.Verdict {
	switch d.roll(7) {
	case 0:
		return rule.Do(d.roll(int(rule.Refuse) + 1))
	case 1:
		return rule.Mark{Value: uint32(d.number()), Mask: uint32(d.number())}
	case 2:
		return rule.Masquerade{First: d.number(), Last: d.number()}
	case 3:
		return rule.ShiftPort{}
	case 4:
		return rule.Redirect(d.address())
	case 5:
		return rule.Join{}
	}
	return rule.Jump(state.ChainServices)
}
