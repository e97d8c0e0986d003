// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
)

// configFlags are the flags that make up a configuration, with kube-proxy's
// names where kube-proxy has them. Commands that compute what the daemon would
// do have them too.
type configFlags struct {
	flags                    *pflag.FlagSet   // of the command
	first                    proxyconfig.Pair // what the flags were read into, before any file was
	config, settings         string           // files
	healthzPort, metricsPort int32
}

func newConfigFlags() *configFlags {
	return &configFlags{first: proxyconfig.Default()}
}

// addPlanning adds the flags on which it depends what a Service means.
func (x *configFlags) addPlanning(command *cobra.Command) {
	x.flags = command.Flags()
	x.flags.StringVar(&x.config, "config", "", "kube-proxy's configuration file; most flags of kube-proxy are ignored then, as by kube-proxy")
	x.flags.StringVar(&x.settings, "settings", "", "file with the settings that kube-proxy has no word for")
	b := newBoundFlags(x.flags, &x.first)
	b.proxyPlanning()
	b.ownPlanning()
}

// addDaemon adds the flags that matter only to who keeps the kernel as planned.
func (x *configFlags) addDaemon() {
	b := newBoundFlags(x.flags, &x.first)
	b.proxyDaemon()
	b.ownDaemon()
	x.flags.Int32Var(&x.healthzPort, "healthz-port", 10256, "deprecated: port of --healthz-bind-address if that has none; 0: nowhere")
	x.flags.Int32Var(&x.metricsPort, "metrics-port", 10249, "deprecated: port of --metrics-bind-address if that has none; 0: nowhere")
	for _, name := range idleFlags() {
		x.flags.String(name, "", "without effect")
	}
}

// idleFlags are those of kube-proxy that neither mean anything here nor are in
// its document.
func idleFlags() []string { return []string{"boot-id-file", "machine-id-file"} }

// allFlags are all flags over a pair.
func allFlags(p *proxyconfig.Pair) *boundFlags {
	b := newBoundFlags(pflag.NewFlagSet("", pflag.ContinueOnError), p)
	b.proxyPlanning()
	b.proxyDaemon()
	b.ownPlanning()
	b.ownDaemon()
	return b
}

// choice is what files and flags say, checked.
type choice struct {
	pair     proxyconfig.Pair
	config   config.Config
	warnings []string
	files    []File // as they were read
}

// parse reads the files, as they are now, and puts the flags over them. It may
// be called again when the files have changed.
func (x *configFlags) parse() (choice, error) {
	c := choice{pair: proxyconfig.Default()}
	if err := x.read(&c); err != nil {
		return c, err
	}
	mode := c.pair.Proxy.Mode
	names, ignored, err := x.over(&c)
	if err != nil {
		return c, err
	}
	if c.pair.Proxy.Mode != mode {
		c.warnings = append(c.warnings, fmt.Sprintf("mode: %s, which --proxy-mode=%s overrules: kube-ipvs is ipvs always", mode, c.pair.Proxy.Mode))
	}
	c.pair.Complete()
	var advice []string
	c.config, advice, err = c.pair.Config()
	if err != nil {
		return c, inFlags(err, names)
	}
	c.warnings = append(c.warnings, advice...)
	if w := proxyconfig.Ignored(append(inTermsOf(names, c.pair.Meaningless()), ignored...)); w != "" {
		c.warnings = append(c.warnings, w)
	}
	return c, nil
}

// read reads the files into c. Without --config no address of a server is set
// yet: what it becomes depends on other flags.
func (x *configFlags) read(c *choice) error {
	if x.config == "" {
		c.pair.Proxy.HealthzBindAddress, c.pair.Proxy.MetricsBindAddress = "", ""
	}
	for _, f := range []struct {
		flag, path string
		take       func([]byte) ([]string, error)
	}{
		{"--config", x.config, c.pair.ReadConfig},
		{"--settings", x.settings, func(text []byte) ([]string, error) { return nil, c.pair.ReadSettings(text) }},
	} {
		if f.path == "" {
			continue
		}
		text, err := os.ReadFile(f.path)
		if err != nil {
			return fmt.Errorf("reading %s: %w", f.flag, err)
		}
		c.files = append(c.files, File{Path: f.path, Text: text})
		warnings, err := f.take(text)
		if err != nil {
			return fmt.Errorf("reading %s %s: %w", f.flag, f.path, err)
		}
		c.warnings = append(c.warnings, warnings...)
	}
	return nil
}

// over puts the flags of the command line over what the files say. Names are
// those of the flags that counted, by the paths of their fields.
func (x *configFlags) over(c *choice) (names map[string]string, ignored []string, err error) {
	all := allFlags(&c.pair)
	counts := func(flag string) bool { return x.config == "" || all.firm[flag] }
	names = maps.Clone(all.names)
	maps.DeleteFunc(names, func(_, flag string) bool { return !x.flags.Changed(flag) || !counts(flag) })
	x.flags.Visit(func(f *pflag.Flag) {
		text, bound := f.Value.String(), all.Lookup(f.Name) != nil
		switch {
		case slices.Contains(idleFlags(), f.Name):
			ignored = append(ignored, "--"+f.Name)
		case (bound || slices.Contains(portFlags(), f.Name)) && !counts(f.Name):
			ignored = append(ignored, "--"+f.Name+" (there is --config)")
		case f.Name == "hostname-override" && text == "": // to kube-proxy it is as if it were not there
		case bound:
			err = errors.Join(err, all.Set(f.Name, text))
		}
	})
	if x.config == "" {
		x.port(c, "healthz", x.healthzPort, &c.pair.Proxy.HealthzBindAddress)
		x.port(c, "metrics", x.metricsPort, &c.pair.Proxy.MetricsBindAddress)
	}
	return names, ignored, err
}

// portFlags are kube-proxy's of old, for the ports of servers.
func portFlags() []string { return []string{"healthz-port", "metrics-port"} }

// port obeys a flag for the port of a server. As with kube-proxy it is of no use
// to an address that has a port, which the default has, but for 0.
func (x *configFlags) port(c *choice, server string, port int32, address *string) {
	if !x.flags.Changed(server + "-port") {
		return
	}
	c.warnings = append(c.warnings, fmt.Sprintf("--%s-port is deprecated: use --%[1]s-bind-address", server))
	*address = proxyconfig.WithPort(*address, strconv.Itoa(int(port)))
	if port == 0 {
		*address = "0.0.0.0:0"
	}
}

// inTermsOf are paths, or the flags that set them.
func inTermsOf(names map[string]string, paths []string) []string {
	var all []string
	for _, p := range paths {
		if flag, ok := names[p]; ok {
			p = "--" + flag
		}
		all = append(all, p)
	}
	return all
}

// inFlags is err with the names of flags in place of the paths that they set. A
// flag is the fault of who wrote the command line.
func inFlags(err error, names map[string]string) error {
	var found config.Complaints
	if !errors.As(err, &found) {
		return err
	}
	usage := false
	for i := range found {
		path, _, _ := strings.Cut(found[i].Field, "[")
		if flag, ok := names[path]; ok {
			found[i].Field, usage = "--"+flag, true
		}
	}
	if usage {
		return usageError{found}
	}
	return found
}
