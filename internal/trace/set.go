// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// dimensions is how many directions a look into a set of a type needs. Types that are not here are not
// understood.
func dimensions(t state.SetType) int {
	switch t {
	case state.HashIP, state.BitmapPort:
		return 1
	case state.HashIPPort:
		return 2
	case state.HashIPPortIP, state.HashIPPortNet:
		return 3
	}
	return 0
}

// look looks for the packet in a set, as the kernel does. The finding's words are also there if the answer is
// no.
func (w *walk) look(name state.SetName, directions []string) finding {
	set, exists := w.state.Sets[name]
	needs := dimensions(set.Type)
	switch {
	case !exists:
		return finding{answer: maybe, words: fmt.Sprintf("set %s is not known", name)}
	case needs == 0:
		return finding{answer: maybe, words: fmt.Sprintf("set %s is of type %s", name, set.Type)}
	case len(directions) < needs, set.Family != 0 && set.Family != w.family:
		return finding{words: fmt.Sprintf("%s has nothing of this kind", name)}
	}
	key, fits, known := w.key(name, set.Type, directions)
	switch {
	case !known:
		return finding{answer: maybe, words: "the source port is not known"}
	case !fits:
		return finding{words: fmt.Sprintf("%s has no entry for such packets", name)}
	}
	entry, row, found := w.entry(key, set.Type)
	if !found {
		return finding{words: fmt.Sprintf("%s does not have %s", name, key.Member())}
	}
	f := finding{answer: yes, mark: row.Mark, words: fmt.Sprintf("%s has %s", name, entry.Member())}
	if row.Comment != "" {
		f.words += " (" + row.Comment + ")"
	}
	if set.Type == state.HashIPPort || set.Type == state.BitmapPort {
		f.service = row.Comment
	}
	return f
}

// key is the entry that the packet has in a set, if the type can have one for it, and if the packet's ports
// are known.
func (w *walk) key(name state.SetName, t state.SetType, directions []string) (k state.SetEntry, fits, known bool) {
	at := func(i int) netip.AddrPort {
		end, _ := w.side(directions[i] == "src")
		return end
	}
	k = state.SetEntry{Set: name}
	if t == state.BitmapPort {
		k.Port = at(0).Port()
		return k, w.packet.Protocol == state.TCP || w.packet.Protocol == state.UDP, k.Port != 0 || w.packet.Protocol == Ping
	}
	k.Address = at(0).Addr()
	if t == state.HashIP {
		return k, true, true
	}
	k.Protocol, k.Port = w.number(), at(1).Port()
	known = k.Port != 0
	if w.packet.Protocol == Ping { // the kernel takes type and code for the port
		k.Port, known = echo<<8, true
		if w.family == state.IPv6 {
			k.Port = echoV6 << 8
		}
	}
	if t == state.HashIPPortIP || t == state.HashIPPortNet {
		third := at(2).Addr()
		k.Source = netip.PrefixFrom(third, third.BitLen())
	}
	return k, true, known
}

// entry is the entry that holds k. One for networks may do so with a shorter prefix; the longest counts.
func (w *walk) entry(k state.SetEntry, t state.SetType) (state.SetEntry, state.Entry, bool) {
	row, ok := w.state.Entries[k]
	if ok || t != state.HashIPPortNet {
		return k, row, ok
	}
	for bits := k.Source.Bits(); bits >= 0; bits-- {
		shorter := k
		shorter.Source = netip.PrefixFrom(k.Source.Addr(), bits).Masked()
		if row, ok := w.state.Entries[shorter]; ok {
			return shorter, row, true
		}
	}
	return k, state.Entry{}, false
}
