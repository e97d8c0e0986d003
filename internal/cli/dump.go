// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Kernel is what dump reads.
type Kernel interface {
	// State reads virtual and real servers, the entries of our sets and the addresses on the dummy device. A table that
	// cannot be read is nil and named in the error; the others are still returned.
	State(ctx context.Context) (state.State, error)

	// Observe reads the connections. If everything is true, it also reads counters and limits, which takes a request
	// for each virtual server.
	Observe(ctx context.Context, everything bool) (render.Observed, error)

	Close() error
}

const dumpLong = `Show the virtual servers in the kernel as ipvsadm -Ln does, and the Service of each.

This reads only the kernel: neither the daemon nor the API server needs to run. In
the Service column, "-" is a virtual server that is not ours, and "?" one whose
Service is not in the kernel: kube-proxy's sets have no names of Services, and a
virtual server with a firewall mark is in no set.

  -o text   the columns of ipvsadm -Ln and the Service
  -o wide   more columns, and problems in words; also set entries and addresses
            without a virtual server; rules and policies of other programs that
            stop packets to Services; and the age of the snapshot, from which a
            start without the API server begins
  -o json   a VirtualServerList
  -o yaml   the same
  -o save   what ipvsadm --restore reads
  -o nft    what nft list table prints of our table of nftables, whole: sets with
            their elements, and chains

Without a match nothing is listed. That is no failure.`

const dumpExample = `  kube-ipvs dump
  kube-ipvs dump --service kube-system/kube-dns -o wide
  kube-ipvs dump --address 10.96.0.1:443 --stats
  kube-ipvs dump -n default --protocol udp -o json
  kube-ipvs dump -o save > rows && ipvsadm --restore < rows
  kube-ipvs dump -o nft`

type dumpFlags struct {
	service, address, protocol, output, snapshot string
	stats, rate                                  bool

	filter  render.Filter
	columns render.Columns
	write   func(io.Writer, render.View, render.Columns) error
}

// Stored is what a snapshot is about.
type Stored struct {
	Node     string
	Services int
	Age      time.Duration // since its objects were up to date
}

// usualSnapshot is the path in our manifests.
const usualSnapshot = "/var/lib/kube-ipvs/snapshot"

func newDump(env Env) *cobra.Command {
	var flags dumpFlags
	c := &cobra.Command{
		Use:     "dump",
		Short:   "Show the virtual servers in the kernel and their Services",
		Long:    dumpLong,
		Example: dumpExample,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.parse(); err != nil {
				return usageError{err}
			}
			return flags.dump(c.Context(), env)
		},
	}
	f := c.Flags()
	f.StringVar(&flags.service, "service", "", "only this Service: NAME or NAMESPACE/NAME, with :PORT for one port")
	f.StringVarP(&flags.filter.Namespace, "namespace", "n", "", "only Services of this namespace")
	f.StringVar(&flags.address, "address", "", "only virtual servers with this IP or IP:PORT, or with such a real server")
	f.StringVar(&flags.protocol, "protocol", "", "only this protocol: tcp, udp or sctp")
	f.BoolVar(&flags.stats, "stats", false, "show counters instead of connections")
	f.BoolVar(&flags.rate, "rate", false, "show rates per second instead of connections")
	f.StringVar(&flags.snapshot, "snapshot", usualSnapshot, "the daemon's snapshot; -o wide shows its age")
	addOutput(c, &flags.output, dumpOutputs())
	return c
}

func dumpOutputs() []format[func(io.Writer, render.View, render.Columns) error] {
	plain := func(write func(io.Writer, render.View) error) func(io.Writer, render.View, render.Columns) error {
		return func(w io.Writer, v render.View, _ render.Columns) error { return write(w, v) }
	}
	return []format[func(io.Writer, render.View, render.Columns) error]{
		{"text", render.Text}, {"wide", plain(render.Wide)}, {"json", render.JSON}, {"yaml", render.YAML}, {"save", plain(render.Save)},
		{name: nftOutput}, // of no View: dumpTable writes it
	}
}

// parse sets filter, columns and write.
func (f *dumpFlags) parse() (err error) {
	if f.write, err = outputNamed(dumpOutputs(), f.output); err != nil {
		return err
	}
	switch {
	case f.stats && f.rate:
		return errors.New("--stats and --rate exclude each other")
	case (f.stats || f.rate) && (f.output == "wide" || f.output == "save" || f.output == nftOutput):
		return fmt.Errorf("-o %s has no columns for --stats or --rate", f.output)
	case f.stats:
		f.columns = render.Traffic
	case f.rate:
		f.columns = render.Rates
	}
	if err := parseService(f.service, &f.filter); err != nil {
		return err
	}
	if err := parseAddress(f.address, &f.filter); err != nil {
		return err
	}
	if f.protocol != "" {
		f.filter.Protocol, err = state.ParseProtocol(f.protocol)
	}
	if err == nil && f.output == nftOutput && f.filter != (render.Filter{}) {
		return errors.New("-o nft shows the whole table: it takes no Service, namespace, address or protocol")
	}
	return err
}

// parseService parses NAME or NAMESPACE/NAME, and :PORT after it.
func parseService(s string, f *render.Filter) error {
	if s == "" {
		return nil
	}
	namespace, rest, qualified := strings.Cut(s, "/")
	if !qualified {
		namespace, rest = f.Namespace, s
	}
	f.Name, f.PortName, _ = strings.Cut(rest, ":")
	switch {
	case f.Name == "" || qualified && namespace == "" || strings.Contains(rest, "/"):
		return fmt.Errorf("--service: %q is not NAME or NAMESPACE/NAME", s)
	case f.Namespace != "" && f.Namespace != namespace:
		return fmt.Errorf("--service: %q is not in namespace %q", s, f.Namespace)
	}
	f.Namespace = namespace
	return nil
}

func parseAddress(s string, f *render.Filter) error {
	if s == "" {
		return nil
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		f.Address, f.Port = a.Addr().Unmap(), a.Port()
		return nil
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return fmt.Errorf("address %q is not IP or IP:PORT", s)
	}
	f.Address = a.Unmap()
	return nil
}

// dump reads everything first, then computes, then writes once.
func (f *dumpFlags) dump(ctx context.Context, env Env) error {
	if f.output == nftOutput {
		return env.dumpTable(ctx)
	}
	s, seen, err := read(ctx, env, f.output != "text" || f.columns != render.Connections)
	if err != nil {
		return err
	}
	v := render.Join(s, seen, plan.ServerEntries).Only(f.filter)
	var b bytes.Buffer
	if err := f.write(&b, v, f.columns); err != nil {
		return err
	}
	env.sayIfNotRunning()
	if len(v.VirtualServers) == 0 && f.filter != (render.Filter{}) {
		more := ""
		if !v.Empty() {
			more = " There are matching set entries or addresses: see -o wide."
		}
		say(env, "No virtual server in the kernel matches.%s", more)
	}
	if f.output == "wide" {
		writeBarriers(ctx, &b, env)
		writeStored(&b, env, f.snapshot)
	}
	_, err = env.Stdout.Write(b.Bytes())
	return err
}

func (env Env) sayIfNotRunning() {
	if !env.Running() {
		say(env, "kube-ipvs is not running in this network namespace: what follows is what it, or another proxy, left in the kernel.")
	}
}

// writeBarriers writes which rules of other programs stop packets to Services.
func writeBarriers(ctx context.Context, b *bytes.Buffer, env Env) {
	barriers, err := env.Barriers(ctx)
	if err != nil {
		say(env, "Could not check whether rules of other programs stop Services: %s", oneLine(err))
	}
	if len(barriers) > 0 {
		b.WriteString("\nRules of other programs that stop Services:\n")
	}
	for _, barrier := range barriers {
		fmt.Fprintf(b, "  %v\n", barrier)
	}
}

// writeStored writes the age of the snapshot. A missing one is a problem only if it was asked for.
func writeStored(b *bytes.Buffer, env Env, file string) {
	s, err := env.Stored(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && file == usualSnapshot:
	case err != nil:
		say(env, "The snapshot cannot be used: %s", oneLine(err))
	default:
		fmt.Fprintf(b, "\nSnapshot of node %s, for a start without the API server: %d Services, as they were %v ago.\n",
			s.Node, s.Services, s.Age.Round(time.Second))
	}
}

// read reads the kernel. Only tables of virtual and real servers must be readable.
func read(ctx context.Context, env Env, everything bool) (s state.State, seen render.Observed, err error) {
	k, err := env.OpenKernel()
	if err != nil {
		return s, seen, explain(err)
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	s, err = k.State(ctx)
	if s.VirtualServers == nil || s.RealServers == nil {
		return s, seen, explain(err)
	}
	if err != nil {
		say(env, "Not everything could be read; what depends on it shows as \"?\": %s", oneLine(err))
	}
	seen, err = k.Observe(ctx, everything)
	return s, seen, err
}

// explain returns an error that says what to do.
func explain(err error) error {
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return errors.New("this kernel has no IPVS: its module ip_vs is missing or cannot be loaded")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("reading IPVS needs root, or CAP_NET_ADMIN in the initial user namespace")
	}
	return err
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
