// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// What a set can hold differs between the firewalls: an ipset keeps its type and has a limit, a set of nftables takes
// another type and keeps the entries that fit it.

const (
	maxNameLength    = 31
	maxCommentLength = 255
	maxNFTComment    = 251
)

// checkSet also refuses a header that does not fit the entries of the set.
func (k *Kernel) checkSet(n state.SetName, s state.Set) error {
	if n.Firewall() == state.OnNFTables {
		return checkNFTSet(n, s)
	}
	if !slices.Contains(ipsetTypes(), s.Type) {
		return fmt.Errorf("set %v: type %q is unknown", n, s.Type)
	}
	bitmap := s.Type == state.BitmapPort
	if n == "" || len(n) > maxNameLength || bitmap != (s.Family == 0) || bitmap != (s.MaxElem == 0) {
		return fmt.Errorf("set %v can't be %+v", n, s)
	}
	have, there := k.State.Sets[n]
	if there && (have.Type != s.Type || have.Family != s.Family) {
		return fmt.Errorf("set %v keeps its type and family", n)
	}
	if there && s.MaxElem < have.MaxElem && k.members()[n] > s.MaxElem {
		return fmt.Errorf("set %v has more entries than %d", n, s.MaxElem)
	}
	return nil
}

func ipsetTypes() []state.SetType {
	return []state.SetType{state.HashIP, state.HashIPPort, state.HashIPPortIP, state.HashIPPortNet, state.BitmapPort}
}

func checkNFTSet(n state.SetName, s state.Set) error {
	if !s.Type.IsMap() && !slices.Contains(ipsetTypes(), s.Type) {
		return fmt.Errorf("set %v: type %q is unknown", n, s.Type)
	}
	want := state.Set{Type: s.Type, Family: n.Family(), Comment: true}
	if s.Type == state.BitmapPort {
		want.Family = 0
	}
	if s != want {
		return fmt.Errorf("set %v of nftables can't be %+v", n, s)
	}
	return nil
}

// members returns how many entries each set has.
func (k *Kernel) members() map[state.SetName]uint32 {
	n := map[state.SetName]uint32{}
	for e := range k.State.Entries {
		n[e.Set]++
	}
	return n
}

func (k *Kernel) setUnused(n state.SetName) error {
	for key, chain := range k.State.Chains {
		if matches(chain.Rules, n) {
			return fmt.Errorf("set %v is in use by chain %v", n, key)
		}
	}
	for key, jump := range k.State.Jumps {
		if matches(jump.Rule, n) {
			return fmt.Errorf("set %v is in use by jump %v", n, key)
		}
	}
	return nil
}

func matches(rules string, n state.SetName) bool {
	return strings.Contains(rules, "-set "+string(n)+" ") // --match-set, --map-set
}

func (k *Kernel) setsGone(removed map[state.SetName]bool) {
	maps.DeleteFunc(k.State.Entries, func(e state.SetEntry, _ state.Entry) bool { return removed[e.Set] })
}

// setChanged drops the comments and marks of a set that has no room for them any more, and the entries that a new type
// can't hold.
func (k *Kernel) setChanged(n state.SetName, s state.Set) {
	have, there := k.State.Sets[n]
	if !there || s.Type == have.Type && (s.Comment || !have.Comment) && (s.Marks || !have.Marks) {
		return
	}
	for e, v := range k.State.Entries {
		if e.Set != n {
			continue
		}
		if checkForm(e, s) != nil {
			delete(k.State.Entries, e)
			continue
		}
		if !s.Comment {
			v.Comment = ""
		}
		if !s.Marks {
			v.Mark = 0
		}
		k.State.Entries[e] = v
	}
}

// entries counts the entries of each set while it changes them.
type entries struct{ k *Kernel }

type entryStore = store[state.SetEntry, state.Entry]

func (s entries) List(ctx context.Context) (map[state.SetEntry]state.Entry, error) {
	return entryStore{rows: s.k.State.Entries}.List(ctx)
}

func (s entries) Apply(ctx context.Context, d diff.Delta[state.SetEntry, state.Entry]) kernel.Result[state.SetEntry] {
	var members map[state.SetName]uint32
	var networks networks
	if len(d.Add)+len(d.Update) > 0 {
		members = s.k.members()
	}
	return entryStore{
		rows: s.k.State.Entries,
		check: func(e state.SetEntry, v state.Entry) error {
			if err := s.k.checkEntry(e, v); err != nil {
				return err
			}
			_, there := s.k.State.Entries[e]
			if most := s.k.State.Sets[e.Set].MaxElem; !there && most > 0 && members[e.Set] >= most {
				return fmt.Errorf("set entry %v: the set is full with %d", e, most)
			}
			return networks.check(s.k, e)
		},
		gone: func(removed map[state.SetEntry]bool) {
			for e := range removed {
				if members != nil {
					members[e.Set]--
				}
			}
		},
		changed: func(e state.SetEntry, _ state.Entry) {
			if _, there := s.k.State.Entries[e]; !there {
				members[e.Set]++
			}
		},
	}.Apply(ctx, d)
}

func (k *Kernel) checkEntry(e state.SetEntry, v state.Entry) error {
	s, ok := k.State.Sets[e.Set]
	if !ok {
		return missing(e, e.Set)
	}
	most := maxCommentLength
	if e.Set.Firewall() == state.OnNFTables {
		most = maxNFTComment
	}
	if len(v.Comment) > most || v.Comment != "" && !s.Comment {
		return fmt.Errorf("set entry %v has no room for a comment of %d bytes", e, len(v.Comment))
	}
	if v.Mark != 0 && !s.Marks {
		return fmt.Errorf("set entry %v has no room for a mark", e)
	}
	if err := checkForm(e, s); err != nil {
		return fmt.Errorf("set entry %v: %w", e, err)
	}
	return nil
}

// checkForm reports what an entry lacks, or has too much, for the type of its set.
func checkForm(e state.SetEntry, s state.Set) error {
	address, protocol := e.Address.IsValid(), e.Protocol != 0
	wants := s.Type != state.BitmapPort
	port := s.Type != state.HashIP && wants
	source := s.Type == state.HashIPPortIP || s.Type == state.HashIPPortNet
	if address != wants || protocol != port || e.Source.IsValid() != source {
		return fmt.Errorf("not what a %s set holds", s.Type)
	}
	if address && state.FamilyOf(e.Address) != s.Family {
		return errors.New("not of its set's IP family")
	}
	if _, leads := e.LeadsTo(state.Entry{}); s.Type.IsMap() && !leads {
		return errors.New("leads nowhere, by the name of its set")
	}
	if !source {
		return nil
	}
	return checkSource(e, s)
}

func checkSource(e state.SetEntry, s state.Set) error {
	all := e.Source.Bits() == 0 && e.Set.Firewall() == state.OnIPTables
	if e.Source.Addr().Is4() != e.Address.Is4() || all || e.Source != e.Source.Masked() {
		return errors.New("a source of another IP family, of all addresses, or with bits behind its length")
	}
	if s.Type == state.HashIPPortIP && !e.Source.IsSingleIP() {
		return errors.New("a source that is no host")
	}
	return nil
}

// networks are the sources of the entries of nftables, by what else is in the entry.
type networks map[state.SetEntry][]netip.Prefix

// check refuses an entry whose source overlaps that of another one. nftables does not refuse all of these, but what it
// takes depends on the order.
func (n *networks) check(k *Kernel, e state.SetEntry) error {
	if e.Set.Firewall() != state.OnNFTables || !e.Source.IsValid() {
		return nil
	}
	if *n == nil {
		*n = networks{}
		for there := range k.State.Entries {
			n.add(there)
		}
	}
	rest := e
	rest.Source = netip.Prefix{}
	for _, other := range (*n)[rest] {
		if other != e.Source && other.Overlaps(e.Source) {
			return fmt.Errorf("set entry %v overlaps the one of %v", e, other)
		}
	}
	n.add(e)
	return nil
}

func (n *networks) add(e state.SetEntry) {
	if source := e.Source; e.Set.Firewall() == state.OnNFTables && source.IsValid() {
		e.Source = netip.Prefix{}
		(*n)[e] = append((*n)[e], source)
	}
}
