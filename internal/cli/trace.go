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

const traceLong = `Say what becomes of the first packet that SRC sends to DST, and why: who answers,
whom they take for the client, or which rule drops or refuses it. No packet is
sent: the rules and tables are read and followed as the kernel follows them.

SRC is "node" for this node itself, with the address that the kernel picks, or

  ADDRESS             one of this node's own, or a pod's or anybody's elsewhere
  ADDRESS@INTERFACE   where the packet comes in, if rules look at that
  ADDRESS@node        this node, with this address

and can have a port. DST is ADDRESS:PORT, with /udp or /sctp behind it if it is
not TCP, or ADDRESS/icmp for a ping. IPv6 addresses with a port are in brackets.

The kernel is asked, or, with -f, a state as 'plan -o text' writes it, or
manifests, with the flags by which the daemon runs.

The kernel's rules are followed whoever made them, with the policies of its chains,
and so is the answer's way back. Of files the rules of kube-ipvs are known alone.
Routes beyond this node, and connections that are there already, are not looked at.
What the answer depends on and is not known or not simple stands below it.`

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
		Short:   "Say what becomes of a packet, and why",
		Long:    traceLong,
		Example: traceExample,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("trace takes two arguments, SRC and DST:PORT, but has %d", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			o, err := outputNamed(traceOutputs(), output)
			if err != nil {
				return usageError{err}
			}
			p, w, err := parsePacket(args[0], args[1])
			if err != nil {
				return usageError{err}
			}
			return runTrace(c.Context(), env, flags, traceRequest{p, w, o})
		},
	}
	flags.add(c)
	addOutput(c, &output, traceOutputs())
	return c
}

// traceRequest is what somebody wants to know.
type traceRequest struct {
	packet trace.Packet
	where  trace.Where
	output traceOutput
}

// traceOutput is a form of the output.
type traceOutput struct {
	name  string
	write func(io.Writer, trace.Verdict) error
}

func (o traceOutput) String() string { return o.name }

func traceOutputs() []traceOutput {
	return []traceOutput{{"text", trace.Text}, {"json", traceJSON}, {"yaml", traceYAML}}
}

func traceJSON(w io.Writer, v trace.Verdict) error { return render.WriteJSON(w, trace.ReportOf(v)) }

func traceYAML(w io.Writer, v trace.Verdict) error { return render.WriteYAML(w, trace.ReportOf(v)) }

func runTrace(ctx context.Context, env Env, flags *manifestFlags, r traceRequest) error {
	s, addresses, err := flags.traced(ctx, env)
	if err != nil {
		return err
	}
	if len(flags.files) == 0 {
		if r.where.Rules, err = env.ReadRules(ctx); err != nil {
			say(env, "The rules of others could not be read, and are not looked at: %s", oneLine(err))
		}
	}
	for _, a := range addresses {
		r.where.Addresses = append(r.where.Addresses, a.Unmap())
	}
	r.where.Node = r.where.Node || r.where.Interface == "" && ownAddress(s, r)
	var b bytes.Buffer
	if err := r.output.write(&b, trace.Of(s, r.packet, r.where)); err != nil {
		return err
	}
	_, err = env.Stdout.Write(b.Bytes())
	return err
}

// ownAddress says whether the source is the node's: who names it without an
// interface means the node.
func ownAddress(s state.State, r traceRequest) bool {
	a := r.packet.Source.Addr()
	_, bound := s.Addresses[state.Address{Addr: a}]
	return bound || a.IsLoopback() || slices.Contains(r.where.Addresses, a)
}

// traced is the state to look at, and the node's own addresses: the kernel's, or
// that of files.
func (m *manifestFlags) traced(ctx context.Context, env Env) (state.State, []netip.Addr, error) {
	if len(m.files) == 0 {
		return readNode(ctx, env)
	}
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
	w, err := m.wish(env)
	for _, n := range w.notes {
		say(env, "%v", n)
	}
	return w.state, w.node.Addresses, err
}

// readText reads a file, and nothing of a directory.
func readText(path string, stdin io.Reader) ([]byte, error) {
	if path == file.Stdin {
		return io.ReadAll(stdin)
	}
	if stat, err := os.Stat(path); err != nil || stat.IsDir() {
		return nil, err
	}
	return os.ReadFile(path)
}

// isState tells a state from manifests by its first line: it has the title of a
// table, of words alone, which no manifest begins with.
func isState(text []byte) bool {
	title, _, _ := bytes.Cut(text, []byte("\n"))
	return len(title) > 0 && strings.Trim(string(title), "abcdefghijklmnopqrstuvwxyz ") == ""
}

func readNode(ctx context.Context, env Env) (state.State, []netip.Addr, error) {
	s, addresses, err := env.ReadNode(ctx)
	if s.VirtualServers == nil || s.RealServers == nil {
		return s, nil, explain(err)
	}
	if err != nil {
		say(env, "Not all could be read: %s", oneLine(err))
	}
	return s, addresses, nil
}

// parsePacket reads the two arguments.
func parsePacket(from, to string) (trace.Packet, trace.Where, error) {
	p, err := parseDestination(to)
	if err != nil {
		return p, trace.Where{}, err
	}
	var w trace.Where
	p.Source, w, err = parseSource(from)
	if err != nil {
		return p, w, err
	}
	return p, w, p.Check()
}

// thisNode is the source that is the node itself.
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

// parseEnd reads an address, with or without a port.
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
