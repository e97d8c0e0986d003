// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// State writes all tables of s, a row a line, in the order of the keys: equal states are equal texts. Tables without
// rows are left out, so a table that was not read (nil) looks like an empty one.
//
//	sysctls
//	  net/ipv4/vs/conntrack = 1
//	sets
//	  KUBE-CLUSTER-IP = hash:ip,port IPv4 maxelem 1048576 comment
//	entries
//	  KUBE-CLUSTER-IP 10.96.0.1,tcp:443 = "default/kubernetes:https"
//	  nft:KUBE-CLUSTER-IP 10.96.0.1,tcp:443 = "default/kubernetes:https"
//	chains
//	  IPv4 nat KUBE-MARK-MASQ
//	    -j MARK --set-xmark 0x4000/0x4000
//	  IPv4 nft-nat KUBE-MARK-MASQ
//	    -j MARK --set-xmark 0x4000/0x4000
//	jumps
//	  IPv4 nat PREROUTING -> KUBE-SERVICES = -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
//	links
//	  kube-ipvs0 = dummy
//	virtual servers
//	  TCP 10.96.0.1:443 = rr flags persistent timeout 10800
//	real servers
//	  TCP 10.96.0.1:443 -> 192.0.2.1:6443 = Masq weight 1
//	addresses
//	  10.96.0.1
//	  10.96.0.2 = routed from 192.0.2.1
func State(w io.Writer, s state.State) error {
	var b strings.Builder
	for table, section := range sections() {
		section.write(&b, state.Table(table), &s)
	}
	return write(w, b.String())
}

// sections are the texts of the tables: how a row is written, and how it is read.
func sections() [state.Tables]section {
	return [state.Tables]section{
		state.Sysctls:        rows[state.SysctlName, string]{sysctlLine, pair(parseName[state.SysctlName], parseWord)},
		state.Sets:           rows[state.SetName, state.Set]{setLine, pair(parseName[state.SetName], parseSet)},
		state.Entries:        rows[state.SetEntry, state.Entry]{entryLine, pair(state.ParseSetEntry, parseEntry)},
		state.Chains:         rows[state.ChainKey, state.Chain]{chainLines, parseChain},
		state.Jumps:          rows[state.JumpKey, state.Jump]{jumpLine, parseJumpRow},
		state.Links:          rows[state.LinkName, state.Link]{linkLine, pair(parseName[state.LinkName], parseLink)},
		state.VirtualServers: rows[state.VirtualServerKey, state.VirtualServer]{virtualServerLine, parseVirtualServerRow},
		state.RealServers:    rows[state.RealServerKey, state.RealServer]{realServerLine, pair(state.ParseRealServerKey, parseRealServer)},
		state.Addresses:      rows[state.Address, state.Binding]{addressLine, parseAddressRow},
	}
}

// title is the first line of a table's section: the name of the table, in words.
func title(t state.Table) string { return strings.ReplaceAll(t.String(), "Servers", " servers") }

// section is the text of a table without the types of its rows.
type section interface {
	write(*strings.Builder, state.Table, *state.State)
	// read adds the row of a text, and returns how it would be written.
	read(t state.Table, s *state.State, text string) (again string, err error)
}

type rows[K state.Key[K], V comparable] struct {
	line  func(K, V) string
	parse func(text string) (K, V, error)
}

func (r rows[K, V]) write(b *strings.Builder, t state.Table, s *state.State) {
	table := *state.Part[map[K]V](t, s)
	if len(table) == 0 {
		return
	}
	b.WriteString(title(t) + "\n")
	for _, k := range slices.SortedFunc(maps.Keys(table), K.Compare) {
		b.WriteString(inSection + r.line(k, table[k]) + "\n")
	}
}

func (r rows[K, V]) read(t state.Table, s *state.State, text string) (again string, err error) {
	k, v, err := r.parse(text)
	if err != nil {
		return "", err
	}
	return r.line(k, v), add(*state.Part[map[K]V](t, s), k, v)
}

func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// when returns a text if the condition holds, and nothing otherwise.
func when(condition bool, format string, args ...any) string {
	if !condition {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

const (
	equals    = " = "
	inSection = "  "   // what a row starts with
	inRow     = "    " // what a rule in a chain starts with
)

// word returns a name as it is, or quoted and without blanks if it would not read so again.
func word(s string) string {
	if plain(s) {
		return s
	}
	return strings.ReplaceAll(strconv.QuoteToASCII(s), " ", `\x20`)
}

// plain reports whether s is a word that needs no quotes.
func plain(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '`' }) < 0
}

func sysctlLine(k state.SysctlName, v string) string {
	if !plain(v) {
		v = strconv.QuoteToASCII(v)
	}
	return word(string(k)) + equals + v
}

func setLine(k state.SetName, v state.Set) string {
	return word(string(k)) + equals + word(string(v.Type)) +
		when(v.Family != 0, " %v", v.Family) +
		when(v.MaxElem != 0, " maxelem %d", v.MaxElem) +
		when(v.Comment, " comment") +
		when(v.Marks, " marks")
}

func entryLine(k state.SetEntry, v state.Entry) string {
	return k.String() + equals + strconv.QuoteToASCII(v.Comment) + when(v.Mark != 0, " mark %d", v.Mark)
}

func chainLines(k state.ChainKey, v state.Chain) string {
	text := k.String()
	for _, rule := range v.Lines() {
		text += "\n" + inRow + rule
	}
	return text
}

// jumpLine writes what a jump has besides its own rule below it.
func jumpLine(k state.JumpKey, v state.Jump) string {
	return k.String() + equals + strings.ReplaceAll(v.Rule, "\n", "\n"+inRow)
}

func linkLine(k state.LinkName, v state.Link) string { return word(string(k)) + equals + word(v.Kind) }

func virtualServerLine(k state.VirtualServerKey, v state.VirtualServer) string {
	return k.String() + equals + word(v.Scheduler) +
		when(v.Flags != 0, " flags %s", flagList(v.Flags)) +
		when(v.Timeout != 0, " timeout %d", v.Timeout) +
		when(int(v.Prefix) != k.Family().Bits(), " prefix %d", v.Prefix) +
		when(v.Engine != "", " engine %s", word(v.Engine))
}

// flagList returns the names of flags, without the scheduler's own ones, so that the text does not depend on another
// field.
func flagList(flags state.ServerFlags) string {
	var names []string
	for _, f := range stateFlags() {
		if flags&f.bit != 0 {
			names = append(names, f.name)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		names = append(names, fmt.Sprintf("%#x", uint32(flags)))
	}
	return strings.Join(names, ",")
}

func stateFlags() []flagName {
	own := []flagName{{bit: state.Persistent, name: "persistent"}, {bit: state.OnePacket, name: "ops"}}
	for _, f := range flagNames() {
		if f.scheduler == "" {
			own = append(own, f)
		}
	}
	return own
}

func realServerLine(k state.RealServerKey, v state.RealServer) string {
	return fmt.Sprintf("%v%s%v weight %d", k, equals, v.Method, v.Weight) +
		when(v.Upper != 0, " upper %d", v.Upper) +
		when(v.Lower != 0, " lower %d", v.Lower)
}

// addressLine leaves out the usual binding: assigned.
func addressLine(k state.Address, v state.Binding) string {
	return k.String() + when(v != state.Binding{}, "%s%v", equals, v)
}
