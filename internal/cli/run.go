// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
)

// File is a configuration file as it was read.
type File struct {
	Path string
	Text []byte
}

// Daemon is what `kube-ipvs run` is asked to do.
type Daemon struct {
	// Manifests is the directory that Services come from. Empty: from the API
	// server.
	Manifests string

	// InitOnly does what takes more than CAP_NET_ADMIN, and ends.
	InitOnly bool

	Version  string // of this program
	Config   config.Config
	Warnings []string // about the configuration, for the log
	Configz  []byte   // the configuration as /configz shows it

	// Files are those that the configuration came from, as they were read. Reload
	// reads them again and returns the daemon to run then.
	Files  []File
	Reload func() (Daemon, error)
}

const runLong = `Programs Services into this network namespace's kernel, and keeps the kernel so:
changes take effect at once, and what somebody else changes in the kernel is
repaired within the sync period. Services and their endpoints come from the API
server, or from the YAML and JSON files of a directory.

It takes kube-proxy's configuration file and flags. With --config kube-proxy's
flags are ignored as kube-proxy does, but for --hostname-override, --proxy-mode,
--master and those for the log. Our own settings are in the file of --settings, or
in a second document of the file of --config:

  apiVersion: kube-ipvs.io/v1alpha1
  kind: KubeIPVSConfiguration

Flags for them count beside the files. --write-config-to shows all that can be set.

On SIGTERM it ends and leaves the kernel as it is: forwarding goes on.`

const runExample = `  kube-ipvs run --config /var/lib/kube-proxy/config.conf --hostname-override $(NODE_NAME)
  kube-ipvs run --manifests DIR --hostname-override node-1 --cluster-cidr 10.244.0.0/16,fd00:10:244::/56
  kube-ipvs run --config config.conf --drain-timeout 5m --write-config-to effective.yaml`

// runFlags are the flags of run.
type runFlags struct {
	config    *configFlags
	manifests string
	writeTo   string
	initOnly  bool
	cleanup   bool
	version   asked
}

// newRun is the verb that starts the daemon.
func newRun(env Env) *cobra.Command {
	x := &runFlags{config: newConfigFlags()}
	c := &cobra.Command{
		Use:     "run",
		Short:   "Program Services into the kernel, and keep them there",
		Long:    runLong,
		Example: runExample,
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return x.run(c, env) },
	}
	f := c.Flags()
	f.StringVar(&x.manifests, "manifests", "", "directory of manifests to take Services from, in place of the API server")
	f.StringVar(&x.writeTo, "write-config-to", "", "write the configuration that files and flags make up to this file, and end")
	f.BoolVar(&x.initOnly, "init-only", false, "do what takes more than CAP_NET_ADMIN, and end")
	f.BoolVar(&x.cleanup, "cleanup", false, "do what kube-ipvs cleanup does, and end")
	x.version.add(f)
	x.config.addPlanning(c)
	x.config.addDaemon()
	return c
}

func (x *runFlags) run(c *cobra.Command, env Env) error {
	if x.version {
		return printVersion(env)
	}
	if x.writeTo != "" {
		return x.write(env)
	}
	d, err := x.daemon(env)
	if err != nil {
		return err
	}
	if x.cleanup {
		return Cleanup{Exclude: d.Config.ExcludeCIDRs}.run(c.Context(), env, d.Config.Log.Verbosity > 0)
	}
	return env.Run(c.Context(), d)
}

// daemon is what is to run, by files and flags as they are now.
func (x *runFlags) daemon(env Env) (Daemon, error) {
	made, err := x.config.parse()
	if err != nil {
		return Daemon{}, err
	}
	shown, err := proxyconfig.Configz(made.pair)
	if err != nil {
		return Daemon{}, err
	}
	return Daemon{
		Manifests: x.manifests,
		InitOnly:  x.initOnly,
		Version:   number(env.Build),
		Config:    made.config,
		Warnings:  made.warnings,
		Configz:   shown,
		Files:     made.files,
		Reload:    func() (Daemon, error) { return x.daemon(env) },
	}, nil
}

// write writes the configuration to a file, for --config to read.
func (x *runFlags) write(env Env) error {
	made, err := x.config.parse()
	if err != nil {
		return err
	}
	for _, w := range made.warnings {
		say(env, "%s", w)
	}
	text, err := made.pair.Text()
	if err != nil {
		return err
	}
	if err := os.WriteFile(x.writeTo, text, 0o644); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return nil
}
