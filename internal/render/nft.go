// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/rule"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// NFT writes our tables of nftables as nft list table does (1.0.6). Sets, chains and elements are in the order of their
// rows: nft has sets and chains in the order in which they were made, and elements in one that depends on the machine.
// What another program has put in the place of a rule of ours is a comment.
//
// It is for reading: nft has no words for a match of a map (rule.Rule.NFT), so nft -f refuses its own listing too.
func NFT(w io.Writer, s state.State) error {
	var b strings.Builder
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		t := nftTable{family: f, state: s}
		t.sets()
		t.chains()
		t.bases()
		if len(t.blocks) > 0 {
			fmt.Fprintf(&b, "table %s %s {\n%s}\n", map[state.Family]string{state.IPv4: "ip", state.IPv6: "ip6"}[f], state.NFTable,
				strings.Join(t.blocks, "\n"))
		}
	}
	return write(w, b.String())
}

// nftTable is the text of our table of one family.
type nftTable struct {
	family state.Family
	state  state.State
	blocks []string
}

func (t *nftTable) block(head string, lines ...string) {
	text := "\t" + head + " {\n"
	for _, line := range lines {
		text += "\t\t" + line + "\n"
	}
	t.blocks = append(t.blocks, text+"\t}\n")
}

func (t *nftTable) sets() {
	elements := map[state.SetName][]state.SetEntry{}
	for e := range t.state.Entries {
		elements[e.Set] = append(elements[e.Set], e)
	}
	for _, n := range slices.SortedFunc(maps.Keys(t.state.Sets), state.SetName.Compare) {
		if n.Firewall() != state.OnNFTables || n.Family() != t.family {
			continue
		}
		kind, v := "set ", t.state.Sets[n]
		if v.Type.IsMap() {
			kind = "map "
		}
		lines := []string{t.typeOf(v.Type)}
		if v.Type == state.HashIPPortNet {
			lines = append(lines, "flags interval")
		}
		if list := elements[n]; len(list) > 0 {
			slices.SortFunc(list, state.SetEntry.Compare)
			lines = append(lines, "elements = { "+t.elements(v.Type, list)+" }")
		}
		t.block(kind+string(n.Bare()), lines...)
	}
}

// typeOf returns nft's types of the parts of an element. A set that is not as we make it shows what the kernel says.
func (t *nftTable) typeOf(s state.SetType) string {
	address, port := map[state.Family]string{state.IPv4: "ipv4_addr", state.IPv6: "ipv6_addr"}[t.family], "inet_service"
	frontend := address + " . inet_proto . " + port
	words, ours := map[state.SetType]string{
		state.HashIP: address, state.HashIPPort: frontend, state.BitmapPort: port,
		state.HashIPPortIP: frontend + " . " + address, state.HashIPPortNet: frontend + " . " + address,
		state.MapIPPortToPort: frontend + " : " + port, state.MapIPPortToIP: frontend + " : " + address,
	}[s]
	if !ours {
		return "# " + string(s)
	}
	return "type " + words
}

// elements returns the list of a set: as many in a line as nft puts there.
func (t *nftTable) elements(s state.SetType, list []state.SetEntry) string {
	inLine := 1
	switch {
	case s == state.BitmapPort:
		inLine = 5
	case s == state.HashIP && t.family == state.IPv4:
		inLine = 2
	}
	var b strings.Builder
	for i, e := range list {
		switch {
		case i == 0:
		case i%inLine == 0:
			b.WriteString(",\n\t\t\t     ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(element(s, e, t.state.Entries[e]))
	}
	return b.String()
}

func element(s state.SetType, e state.SetEntry, v state.Entry) string {
	var parts []string
	if e.Address.IsValid() {
		parts = append(parts, e.Address.String())
	}
	if e.Protocol != 0 {
		parts = append(parts, e.Protocol.Lower())
	}
	if s != state.HashIP {
		parts = append(parts, fmt.Sprint(e.Port))
	}
	if e.Source.IsValid() {
		parts = append(parts, strings.TrimSuffix(e.Source.String(), fmt.Sprintf("/%d", e.Source.Addr().BitLen())))
	}
	text := strings.Join(parts, " . ") + when(v.Comment != "", ` comment "%s"`, v.Comment) // nft escapes nothing
	switch to, _ := e.LeadsTo(v); s {
	case state.MapIPPortToPort:
		text += fmt.Sprintf(" : %d", to.Address.Port())
	case state.MapIPPortToIP:
		text += " : " + to.Address.Addr().String()
	}
	return text
}

func (t *nftTable) chains() {
	for _, k := range slices.SortedFunc(maps.Keys(t.state.Chains), state.ChainKey.Compare) {
		if k.Family == t.family && k.Table.Firewall() == state.OnNFTables {
			t.block("chain "+k.Table.NFTChain(k.Name), t.rules(k.Table, t.state.Chains[k].Lines())...)
		}
	}
}

// bases writes base chains: those from which jumps lead to our chains.
func (t *nftTable) bases() {
	lines := map[state.ChainKey][]string{}
	for _, k := range slices.SortedFunc(maps.Keys(t.state.Jumps), state.JumpKey.Compare) {
		if k.Family == t.family && k.Table.Firewall() == state.OnNFTables {
			base := state.ChainKey{Family: k.Family, Table: k.Table, Name: k.From}
			lines[base] = append(lines[base], strings.Split(t.state.Jumps[k].Rule, "\n")...)
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(lines), state.ChainKey.Compare) {
		base := state.BuiltIn(k.Table, k.Name)
		kind := "filter"
		if base.NAT {
			kind = "nat"
		}
		place := fmt.Sprintf("type %s hook %s priority %s; policy accept;", kind, strings.ToLower(k.Name), priority(base))
		t.block("chain "+k.Table.NFTChain(k.Name), append([]string{place}, t.rules(k.Table, lines[k])...)...)
	}
}

// priority returns the number of a priority, or the nearest one with a name that nft knows at the hook.
func priority(b state.Base) string {
	names := map[string]int{"filter": 0}
	switch b.Hook {
	case "PREROUTING":
		names["dstnat"] = -100
	case "POSTROUTING":
		names["srcnat"] = 100
	}
	for name, at := range names {
		switch d := b.Priority - at; {
		case d == 0:
			return name
		case d == -1:
			return name + " - 1"
		}
	}
	return fmt.Sprint(b.Priority)
}

func (t *nftTable) rules(table state.RuleTable, lines []string) []string {
	var words []string
	for _, line := range lines {
		if r, err := rule.Parse(t.family, line); err == nil {
			words = append(words, r.NFT(t.family, table))
		} else {
			words = append(words, "# "+line)
		}
	}
	return words
}
