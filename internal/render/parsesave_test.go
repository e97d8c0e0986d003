// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// ParseSave reads the virtual and real servers that Save wrote. A line that Save would write in another way is an
// error, and so is a repeated row, or a real server before its virtual server.
func ParseSave(r io.Reader) (state.State, error) {
	lines, err := readLines(r)
	if err != nil {
		return state.State{}, fmt.Errorf("reading saved virtual servers: %w", err)
	}
	s := state.New()
	for i, text := range lines {
		if err := parseSaveLine(s, text); err != nil {
			return state.State{}, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return s, nil
}

func parseSaveLine(s state.State, text string) error {
	p := saved{words: strings.Split(text, " ")}
	switch command := p.next(); command {
	case "-A":
		k := p.key()
		v := p.virtualServer(k.Family())
		if err := p.finish(text, saveVirtualServer(k, v)); err != nil {
			return err
		}
		return add(s.VirtualServers, k, v)
	case "-a":
		k := state.RealServerKey{Server: p.key()}
		v := p.realServer(&k.Address)
		if err := p.finish(text, saveRealServer(k, v)); err != nil {
			return err
		}
		if _, ok := s.VirtualServers[k.Server]; !ok {
			return fmt.Errorf("real server %v has no virtual server before it", k)
		}
		return add(s.RealServers, k, v)
	default:
		p.fail(fmt.Errorf("%q is neither -A nor -a", command))
		return p.finish(text, text)
	}
}

// saved reads the words of a line, and keeps the first error. The order and spelling of options are checked at the end,
// against what Save would write.
type saved struct {
	words []string
	err   error
}

func (p *saved) next() string {
	if len(p.words) == 0 {
		p.fail(io.ErrUnexpectedEOF)
		return ""
	}
	word := p.words[0]
	p.words = p.words[1:]
	if !plain(word) {
		p.fail(fmt.Errorf("%q is no word", word))
	}
	return word
}

// skip reads word if it comes next, and reports whether it does.
func (p *saved) skip(word string) bool {
	if len(p.words) == 0 || p.words[0] != word {
		return false
	}
	p.words = p.words[1:]
	return true
}

// fail keeps the first error; nil is none.
func (p *saved) fail(err error) { p.err = cmp.Or(p.err, err) }

func (p *saved) finish(text, want string) error {
	switch {
	case p.err != nil:
		return fmt.Errorf("reading %q: %w", text, p.err)
	case text != want:
		return fmt.Errorf("%q is not written as it should be: %q", text, want)
	}
	return nil
}

func (p *saved) number() uint32 {
	n, err := strconv.ParseUint(p.next(), 10, 32)
	p.fail(err)
	return uint32(n)
}

func (p *saved) address() netip.AddrPort {
	a, err := netip.ParseAddrPort(p.next())
	p.fail(err)
	return a
}

func (p *saved) key() state.VirtualServerKey {
	kind := p.next()
	if kind == "-f" {
		mark := p.number()
		if mark == 0 {
			p.fail(fmt.Errorf("mark 0"))
		}
		if p.skip("-6") {
			return state.MarkKey(state.IPv6, mark)
		}
		return state.MarkKey(state.IPv4, mark)
	}
	for _, protocol := range []state.Protocol{state.TCP, state.UDP, state.SCTP} {
		if protocolOption(protocol) == kind {
			return state.VirtualServerKey{Address: p.address(), Protocol: protocol}
		}
	}
	p.fail(fmt.Errorf("%q is none of -t, -u, --sctp-service, -f", kind))
	return state.VirtualServerKey{}
}

func (p *saved) virtualServer(f state.Family) state.VirtualServer {
	v := state.VirtualServer{Prefix: uint8(f.Bits())}
	var err error
	if p.skip("-s") {
		v.Scheduler = p.next()
	}
	if p.skip("-p") {
		v.Flags, v.Timeout = state.Persistent, p.number()
		if p.skip("-M") {
			v.Prefix, err = parseMask(f, p.next())
			p.fail(err)
		}
	}
	if p.skip("--pe") {
		v.Engine = p.next()
	}
	if p.skip("-o") {
		v.Flags |= state.OnePacket
	}
	if p.skip("-b") {
		flags, err := parseSchedulerFlags(v.Scheduler, p.next())
		p.fail(err)
		v.Flags |= flags
	}
	return v
}

func (p *saved) realServer(address *netip.AddrPort) state.RealServer {
	var r state.RealServer
	if p.skip("-r") {
		*address = p.address()
	}
	switch {
	case p.skip("-i"):
		r.Method = state.Tunnel
	case p.skip("-g"):
		r.Method = state.Route
	}
	p.skip("-m") // Masquerade is the zero value
	if p.skip("-w") {
		r.Weight = p.number()
	}
	if p.skip("-x") {
		r.Upper = p.number()
	}
	if p.skip("-y") {
		r.Lower = p.number()
	}
	return r
}

// parseSchedulerFlags reads names joined by commas.
func parseSchedulerFlags(scheduler, s string) (state.ServerFlags, error) {
	var flags state.ServerFlags
	for name := range strings.SplitSeq(s, ",") {
		names := flagNames()
		i := slices.IndexFunc(names, func(f flagName) bool {
			return f.name == name && (f.scheduler == scheduler || f.scheduler == "")
		})
		if i < 0 {
			return 0, fmt.Errorf("flag %q is none of scheduler %q", name, scheduler)
		}
		flags |= names[i].bit
	}
	return flags, nil
}

// parseMask reads what mask wrote.
func parseMask(f state.Family, s string) (uint8, error) {
	for bits := range f.Bits() {
		if mask(f, state.VirtualServer{Prefix: uint8(bits)}) == s {
			return uint8(bits), nil
		}
	}
	return 0, fmt.Errorf("mask %q is none of an %v client", s, f)
}
