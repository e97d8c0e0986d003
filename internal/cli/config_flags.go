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

// configFlags are the flags that make up the daemon's configuration, with kube-proxy's names where it has them.
type configFlags struct {
	flags                    *pflag.FlagSet   // of the command
	commandLine              proxyconfig.Pair // the flags set it while the command line is parsed
	config, settings         string           // files
	healthzPort, metricsPort int32
}

func newConfigFlags() *configFlags {
	return &configFlags{commandLine: proxyconfig.Default()}
}

// addPlanning adds the flags that plans depend on.
func (x *configFlags) addPlanning(command *cobra.Command) {
	x.flags = command.Flags()
	x.flags.StringVar(&x.config, "config", "", "kube-proxy's configuration file; with it, most flags of kube-proxy are ignored, as by kube-proxy")
	x.flags.StringVar(&x.settings, "settings", "", "file with the settings that kube-proxy does not have")
	b := newBoundFlags(x.flags, &x.commandLine)
	b.proxyPlanning()
	b.ownPlanning()
}

// addDaemon adds the flags that only the daemon needs.
func (x *configFlags) addDaemon() {
	b := newBoundFlags(x.flags, &x.commandLine)
	b.proxyDaemon()
	b.ownDaemon()
	x.flags.Int32Var(&x.healthzPort, "healthz-port", 10256, "deprecated: port of --healthz-bind-address if that has none; 0: off")
	x.flags.Int32Var(&x.metricsPort, "metrics-port", 10249, "deprecated: port of --metrics-bind-address if that has none; 0: off")
	for _, name := range unusedFlags() {
		x.flags.String(name, "", noEffect)
	}
}

// unusedFlags are flags of kube-proxy that have no effect here and no field in its document.
func unusedFlags() []string { return []string{"boot-id-file", "machine-id-file"} }

// portFlags are kube-proxy's deprecated flags for the ports of servers.
func portFlags() []string { return []string{"healthz-port", "metrics-port"} }

// parsedConfig is a checked configuration.
type parsedConfig struct {
	pair     proxyconfig.Pair
	config   config.Config
	warnings []string
	files    []File // as they were read
}

// parse reads the files and applies the flags. It may be called again when the files have changed.
func (x *configFlags) parse() (parsedConfig, error) {
	c := parsedConfig{pair: proxyconfig.Default()}
	if err := x.read(&c); err != nil {
		return c, err
	}
	mode := c.pair.Proxy.Mode
	names, ignored, err := x.apply(&c)
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
		return c, withFlagNames(err, names)
	}
	c.warnings = append(c.warnings, advice...)
	var unused []string
	for _, path := range c.pair.Meaningless() {
		if flag, ok := names[path]; ok {
			path = "--" + flag
		}
		unused = append(unused, path)
	}
	if w := proxyconfig.Ignored(append(unused, ignored...)); w != "" {
		c.warnings = append(c.warnings, w)
	}
	return c, nil
}

// read reads the files into c. Without --config, other flags decide the default addresses of servers.
func (x *configFlags) read(c *parsedConfig) error {
	if x.config == "" {
		c.pair.Proxy.HealthzBindAddress, c.pair.Proxy.MetricsBindAddress = "", ""
	}
	for _, f := range []struct {
		flag, path string
		read       func([]byte) ([]string, error)
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
		warnings, err := f.read(text)
		if err != nil {
			return fmt.Errorf("reading %s %s: %w", f.flag, f.path, err)
		}
		c.warnings = append(c.warnings, warnings...)
	}
	return nil
}

// apply applies the command line to c. It returns the names of the applied flags, by the paths of their fields, and
// those of the ignored ones.
func (x *configFlags) apply(c *parsedConfig) (names map[string]string, ignored []string, err error) {
	all := newBoundFlags(pflag.NewFlagSet("", pflag.ContinueOnError), &c.pair)
	all.proxyPlanning()
	all.proxyDaemon()
	all.ownPlanning()
	all.ownDaemon()
	counts := func(flag string) bool { return x.config == "" || all.overriding[flag] }
	maps.DeleteFunc(all.names, func(_, flag string) bool { return !x.flags.Changed(flag) || !counts(flag) })
	x.flags.Visit(func(f *pflag.Flag) {
		text, bound := f.Value.String(), all.Lookup(f.Name) != nil
		switch {
		case slices.Contains(unusedFlags(), f.Name):
			ignored = append(ignored, "--"+f.Name)
		case (bound || slices.Contains(portFlags(), f.Name)) && !counts(f.Name):
			ignored = append(ignored, "--"+f.Name+" (there is --config)")
		case f.Name == "hostname-override" && text == "": // kube-proxy ignores an empty one
		case bound:
			err = errors.Join(err, all.Set(f.Name, text))
		}
	})
	if x.config == "" {
		x.applyPort(c, "healthz", x.healthzPort, &c.pair.Proxy.HealthzBindAddress)
		x.applyPort(c, "metrics", x.metricsPort, &c.pair.Proxy.MetricsBindAddress)
	}
	return all.names, ignored, err
}

// applyPort applies a deprecated port flag. As with kube-proxy, only 0 changes an address that has a port.
func (x *configFlags) applyPort(c *parsedConfig, server string, port int32, address *string) {
	if !x.flags.Changed(server + "-port") {
		return
	}
	c.warnings = append(c.warnings, fmt.Sprintf("--%s-port is deprecated: use --%[1]s-bind-address", server))
	*address = proxyconfig.WithPort(*address, strconv.Itoa(int(port)))
	if port == 0 {
		*address = "0.0.0.0:0"
	}
}

// withFlagNames returns err with flags in place of the paths that they set. Then it is a usage error.
func withFlagNames(err error, names map[string]string) error {
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
