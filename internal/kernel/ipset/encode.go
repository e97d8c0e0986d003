// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// requests is a batch of ipset requests in one version of the protocol.
type requests struct {
	netlink.Requests
	protocol uint8
}

func (b *requests) begin(command, flags uint16) {
	b.Begin(subsystem<<8|command, flags)
	b.Raw(unix.AF_INET, 0, 0, 0) // struct nfgenmsg, of which ipset reads nothing
	b.Uint8(attrProtocol, b.protocol)
}

func (b *requests) beginSet(command, flags uint16, name state.SetName) {
	b.begin(command, flags)
	b.String(attrSetName, string(name))
}

func (b *requests) create(name state.SetName, s state.Set, revision uint8) {
	b.beginSet(commandCreate, unix.NLM_F_CREATE|unix.NLM_F_EXCL, name)
	b.String(attrTypeName, string(s.Type))
	b.Uint8(attrRevision, revision)
	b.Uint8(attrFamily, netlink.FamilyNumber(s.Family))
	b.Nest(attrContent, func() {
		if s.Type == state.BitmapPort {
			b.Port(attrPort|networkOrder, 0)
			b.Port(attrPortTo|networkOrder, lastPort)
		} else {
			b.BigUint32(attrHashSize|networkOrder, hashSize)
			b.BigUint32(attrMaxElem|networkOrder, s.MaxElem)
		}
		var bits uint32
		if s.Comment {
			bits |= bitComment
		}
		if s.Marks {
			bits |= bitSKBInfo
		}
		if bits != 0 {
			b.BigUint32(attrBits|networkOrder, bits)
		}
	})
}

// destroy fails if the set is not there: without NLM_F_EXCL newer kernels do not report it.
func (b *requests) destroy(name state.SetName) { b.beginSet(commandDestroy, unix.NLM_F_EXCL, name) }

func (b *requests) swap(x, y state.SetName) {
	b.beginSet(commandSwap, 0, x)
	b.String(attrSetName2, string(y))
}

// listHeaders is the dump of one set's header, or of all with an empty name.
func (b *requests) listHeaders(name state.SetName) {
	b.begin(commandList, 0)
	if name != "" {
		b.String(attrSetName, string(name))
	}
	b.BigUint32(attrFlags|networkOrder, flagListHeader)
}

func (b *requests) askType(t state.SetType, f state.Family) {
	b.begin(commandType, 0)
	b.String(attrTypeName, string(t))
	b.Uint8(attrFamily, netlink.FamilyNumber(f))
}

// wholeMark is the mask of an entry's mark: no bit of the packet's own is kept.
const wholeMark = 0xffffffff

// add is a request that fails with errExist if the entry is there and flags has NLM_F_EXCL; without it, an entry that
// is there gets the new value.
func (b *requests) add(flags uint16, k state.SetEntry, v state.Entry) {
	b.beginSet(commandAdd, flags, k.Set)
	b.Nest(attrContent, func() {
		b.member(k)
		if v.Comment != "" {
			b.String(attrComment, v.Comment)
		}
		if v.Mark != 0 {
			b.BigUint64(attrSKBMark|networkOrder, uint64(v.Mark)<<32|wholeMark)
		}
	})
}

// remove is a request that fails with errExist if the entry is not there.
func (b *requests) remove(k state.SetEntry) {
	b.beginSet(commandDelete, unix.NLM_F_EXCL, k.Set)
	b.Nest(attrContent, func() { b.member(k) })
}

func (b *requests) member(k state.SetEntry) {
	if !k.Address.IsValid() {
		b.Port(attrPort|networkOrder, k.Port)
		return
	}
	b.address(attrIP, k.Address)
	if k.Protocol != 0 {
		b.Port(attrPort|networkOrder, k.Port)
		b.Uint8(attrProto, uint8(k.Protocol))
	}
	if k.Source.IsValid() {
		b.address(attrIP2, k.Source.Addr())
		if !k.Source.IsSingleIP() { // hash:ip,port,ip knows no prefix length
			b.Uint8(attrCIDR2, uint8(k.Source.Bits()))
		}
	}
}

func (b *requests) address(kind uint16, a netip.Addr) {
	version := uint16(attrIPv6)
	if a.Is4() {
		version = attrIPv4
	}
	b.Nest(kind, func() { b.Bytes(version|networkOrder, a.AsSlice()) })
}

// checkName guards the kernel's commands: without a name, destroy destroys all sets.
func checkName(n state.SetName) error {
	switch {
	case n == "" || strings.ContainsRune(string(n), 0):
		return fmt.Errorf("set name %q is empty or holds a NUL", string(n))
	case len(n) > maxNameLength:
		return fmt.Errorf("set name %q is longer than %d bytes", string(n), maxNameLength)
	}
	return nil
}

func checkSet(n state.SetName, s state.Set) error {
	if err := checkName(n); err != nil {
		return err
	}
	if !known(s.Type) {
		return fmt.Errorf("set type %q is not one that kube-ipvs makes", s.Type)
	}
	if bitmap := s.Type == state.BitmapPort; bitmap != (s.Family == 0) || bitmap != (s.MaxElem == 0) {
		return fmt.Errorf("a %s set can't have family %d and maxelem %d", s.Type, s.Family, s.MaxElem)
	}
	return nil
}

func known(t state.SetType) bool {
	return slices.Contains([]state.SetType{
		state.HashIP, state.HashIPPort, state.HashIPPortIP, state.HashIPPortNet, state.BitmapPort,
	}, t)
}

// checkEntry refuses what the kernel would store as something else, or refuse without saying why.
func checkEntry(k state.SetEntry, v state.Entry) error {
	if err := checkName(k.Set); err != nil {
		return err
	}
	switch {
	case len(v.Comment) > maxCommentLength:
		return fmt.Errorf("comment of %d bytes is longer than the kernel's %d", len(v.Comment), maxCommentLength)
	case strings.ContainsRune(v.Comment, 0):
		return fmt.Errorf("comment %q holds a NUL", v.Comment)
	case k.Address.Zone() != "":
		return errors.New("address has a zone")
	case !k.Address.IsValid() && (k.Protocol != 0 || k.Source.IsValid()):
		return errors.New("there is a protocol or a source, but no address")
	}
	return checkSource(k)
}

func checkSource(k state.SetEntry) error {
	s := k.Source
	switch {
	case !s.IsValid():
		return nil
	case s.Bits() == 0:
		return errors.New("ipset can't hold a source of all addresses (/0)")
	case s != s.Masked():
		return fmt.Errorf("source %v has bits outside its prefix", s)
	case s.Addr().Is4() != k.Address.Is4():
		return errors.New("address and source are of different IP families")
	}
	return nil
}
