// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func TestMarksComeBackAsMadeAndAreTheToolsOwn(t *testing.T) {
	c := open(t)
	set := map[state.SetName]state.Set{"MARKS": {Type: state.HashIPPort, Family: state.IPv6, MaxElem: 64, Comment: true, Marks: true}}
	testkit.AddAll(t, c.Sets(), set)
	equal(t, c.Sets(), set)
	k := state.SetEntry{Set: "MARKS", Address: netip.MustParseAddr("fd00::1"), Protocol: state.TCP, Port: 80}
	mark := testkit.Mark(state.TCP, 30080)
	testkit.AddAll(t, c.Entries(), entryTable{k: {Comment: "shop/web", Mark: mark}})
	equal(t, c.Entries(), entryTable{k: {Comment: "shop/web", Mark: mark}})
	if save, want := testkit.Tool(t, "ipset", "save", "MARKS"), fmt.Sprintf("skbmark %#x\n", mark); !strings.Contains(save, want) {
		t.Errorf("ipset saves %q, want %q in it", save, want)
	}
	changed := entryTable{k: {Comment: "shop/web", Mark: mark + 1}}
	testkit.Apply(t, c.Entries(), diff.Delta[state.SetEntry, state.Entry]{Update: changesTo(changed)}, 0)
	equal(t, c.Entries(), changed)
	testkit.Tool(t, "ipset", "add", "MARKS", "fd00::2,udp:53", "skbmark", "0x7/0xff")
	if got := testkit.Listed(t, c.Entries())[state.SetEntry{Set: "MARKS", Address: netip.MustParseAddr("fd00::2"), Protocol: state.UDP, Port: 53}]; got.Comment != "mask 0xff " {
		t.Errorf("an entry that keeps bits of the mark is read as %+v", got)
	}
}
