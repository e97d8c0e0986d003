// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster/file"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

const traceLong = `Show what happens to the first packet from SRC to DST, and why: which endpoint
answers, which client address it sees, or which rule drops or refuses the packet. No
packet is sent: this reads the rules and tables and follows them as the kernel does.

SRC is "node" for this node itself, with the address that the kernel picks, or

  ADDRESS             an address of this node, of a pod, or of any other client
  ADDRESS@INTERFACE   the same, and where the packet comes in, if rules match that
  ADDRESS@node        this node, with this address

and can have a port. DST is ADDRESS:PORT, followed by /udp or /sctp if it is not TCP,
or ADDRESS/icmp for a ping. IPv6 addresses with a port are in brackets.

This reads the kernel. With -f it reads the output of 'plan -o text', or manifests
with the flags of the daemon.

In the kernel it follows the rules of all programs and the policies of chains, on the
way there and back. Files have only the rules of kube-ipvs. Routes beyond this node
and existing connections are not considered. Doubts about the answer stand below it.`

const traceExample = `  kube-ipvs trace node 10.96.0.10:53/udp
  kube-ipvs trace 10.244.1.7 10.96.0.1:443
  kube-ipvs trace 203.0.113.9@eth0 [2001:db8::7]:80 -o json
  kube-ipvs trace 203.0.113.9 192.0.2.1:30080 -f shop.yaml --node node-1 --cluster-cidr 10.244.0.0/16
  kube-ipvs plan -f shop.yaml -o text | kube-ipvs trace node 10.96.7.7/icmp -f -`

func newTrace(env Env) *cobra.Command {
	flags := newManifestFlags()
	var output string
	c := &cobra.Command{
		Use:     "trace SRC DST:PORT[/PROTOCOL]",
		Short:   "Show what happens to a packet, and why",
		Long:    traceLong,
		Example: traceExample,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("trace takes two arguments, SRC and DST:PORT, but has %d", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			write, err := outputNamed(traceOutputs(), output)
			if err != nil {
				return err
			}
			p, w, err := parsePacket(args[0], args[1])
			if err != nil {
				return usageError{err}
			}
			s, err := flags.traced(c.Context(), env, p, &w)
			if err != nil {
				return err
			}
			return env.print(func(out io.Writer) error { return write(out, trace.Of(s, p, w)) })
		},
	}
	flags.add(c)
	addOutput(c, &output, traceOutputs())
	return c
}

func traceOutputs() []format[func(io.Writer, trace.Verdict) error] {
	return []format[func(io.Writer, trace.Verdict) error]{
		{"text", trace.Text},
		{"json", func(w io.Writer, v trace.Verdict) error { return render.WriteJSON(w, trace.ReportOf(v)) }},
		{"yaml", func(w io.Writer, v trace.Verdict) error { return render.WriteYAML(w, trace.ReportOf(v)) }},
	}
}

// traced returns the state to follow, from the kernel or from files. It adds to w what is known of the node.
func (m *manifestFlags) traced(ctx context.Context, env Env, p trace.Packet, w *trace.Where) (state.State, error) {
	var s state.State
	var addresses []netip.Addr
	var err error
	if len(m.files) > 0 {
		s, addresses, err = m.readFiles(env)
	} else {
		s, addresses, w.Rules, err = readNode(ctx, env)
	}
	if err != nil {
		return s, err
	}
	for _, a := range addresses {
		w.Addresses = append(w.Addresses, a.Unmap())
	}
	if source := p.Source.Addr(); w.Interface == "" {
		_, bound := s.Addresses[state.Address{Addr: source}]
		w.Node = w.Node || bound || source.IsLoopback() || slices.Contains(w.Addresses, source)
	}
	return s, nil
}

// readFiles returns the state and the node's own addresses.
func (m *manifestFlags) readFiles(env Env) (state.State, []netip.Addr, error) {
	if len(m.files) == 1 {
		text, err := readText(m.files[0], env.Stdin)
		if err != nil {
			return state.State{}, nil, err
		}
		if isState(text) {
			s, err := render.ParseState(bytes.NewReader(text))
			if err != nil {
				return s, nil, fmt.Errorf("reading the state in %s: %w", m.files[0], err)
			}
			return s, m.addresses, nil
		}
		if m.files[0] == file.Stdin {
			env.Stdin = bytes.NewReader(text)
		}
	}
	p, err := m.plan(env)
	sayAll(env, p.notes)
	return p.state, p.node.Addresses, err
}

// readText reads a file; a directory has no text.
func readText(path string, stdin io.Reader) ([]byte, error) {
	if path == file.Stdin {
		return io.ReadAll(stdin)
	}
	if stat, err := os.Stat(path); err != nil || stat.IsDir() {
		return nil, err
	}
	return os.ReadFile(path)
}

// isState reports whether a text is a state and no manifest: its first line is a title, of words alone.
func isState(text []byte) bool {
	title, _, _ := bytes.Cut(text, []byte("\n"))
	return len(title) > 0 && strings.Trim(string(title), "abcdefghijklmnopqrstuvwxyz ") == ""
}

// readNode reads the kernel. Only tables of virtual and real servers must be readable.
func readNode(ctx context.Context, env Env) (s state.State, addresses []netip.Addr, rules state.Ruleset, err error) {
	s, addresses, err = env.ReadNode(ctx)
	if s.VirtualServers == nil || s.RealServers == nil {
		return s, nil, rules, explain(err)
	}
	if err != nil {
		say(env, "Not everything could be read: %s", oneLine(err))
	}
	if rules, err = env.ReadRules(ctx); err != nil {
		which := "The"
		if rules.Bases != nil {
			which = "Some"
		}
		say(env, "%s rules of other programs could not be read and are not considered: %s", which, oneLine(err))
	}
	return s, addresses, rules, nil
}

// parsePacket parses SRC and DST.
func parsePacket(from, to string) (p trace.Packet, w trace.Where, err error) {
	if p, err = parseDestination(to); err != nil {
		return p, w, err
	}
	if p.Source, w, err = parseSource(from); err != nil {
		return p, w, err
	}
	return p, w, p.Check()
}

// thisNode is the SRC that means the node itself.
const thisNode = "node"

func parseSource(s string) (netip.AddrPort, trace.Where, error) {
	var w trace.Where
	if s == thisNode {
		return netip.AddrPort{}, trace.Where{Node: true}, nil
	}
	address, device, hasDevice := strings.Cut(s, "@")
	if hasDevice && (device == "" || strings.ContainsAny(device, "@/ ")) {
		return netip.AddrPort{}, w, fmt.Errorf("source %q: %q is not the name of an interface", s, device)
	}
	if w.Node = device == thisNode; !w.Node {
		w.Interface = device
	}
	a, err := parseEnd(address)
	if err != nil {
		return a, w, fmt.Errorf("source %q is neither %s nor an IP address, perhaps with a port or @INTERFACE", s, thisNode)
	}
	return a, w, nil
}

func parseDestination(s string) (trace.Packet, error) {
	address, protocol, hasProtocol := strings.Cut(s, "/")
	p := trace.Packet{Protocol: state.TCP}
	var err error
	switch {
	case protocol == "icmp" || protocol == "ping":
		p.Protocol = trace.Ping
	case hasProtocol:
		p.Protocol, err = state.ParseProtocol(protocol)
		if err != nil || !slices.Contains([]state.Protocol{state.TCP, state.UDP, state.SCTP}, p.Protocol) {
			return p, fmt.Errorf("destination %q: protocol %q is none of tcp, udp, sctp, icmp", s, protocol)
		}
	}
	if p.Destination, err = parseEnd(address); err != nil {
		return p, fmt.Errorf("destination %q is not ADDRESS:PORT, with an IP address, nor ADDRESS/icmp", s)
	}
	return p, nil
}

// parseEnd parses an address, with or without a port.
func parseEnd(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		address := s
		if inner, ok := strings.CutPrefix(s, "["); ok {
			address = strings.TrimSuffix(inner, "]")
		}
		var bare netip.Addr
		bare, err = netip.ParseAddr(address)
		a = netip.AddrPortFrom(bare, 0)
	}
	if err == nil && a.Addr().Zone() != "" {
		err = errors.New("it has a zone")
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err
}
