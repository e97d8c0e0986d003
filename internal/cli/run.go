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

// Daemon is the command line of `kube-ipvs run`.
type Daemon struct {
	Manifests string // the directory that Services come from; empty: the API server
	InitOnly  bool   // only do what needs more than CAP_NET_ADMIN
	Version   string // of this program
	Config    config.Config
	Warnings  []string               // about the configuration, for the log
	Configz   []byte                 // the configuration as /configz shows it
	Files     []File                 // of the configuration, as they were read
	Reload    func() (Daemon, error) // reads them again
}

const runLong = `Program Services into the kernel of this network namespace and keep them there.
Changes take effect at once. What another program changes in the kernel is repaired
within the sync period. Services and their endpoints come from the API server, or
from YAML and JSON files in a directory.

It takes kube-proxy's configuration file and flags. With --config, kube-proxy's
flags are ignored, as by kube-proxy. Exceptions are --hostname-override,
--proxy-mode, --master and the flags of the log. Settings that kube-proxy does not
have are in the file of --settings, or in a second document in the file of --config:

  apiVersion: kube-ipvs.io/v1alpha1
  kind: KubeIPVSConfiguration

Their flags override the files. --write-config-to writes a file with all settings.

On SIGTERM it exits and leaves the kernel as it is: forwarding goes on.`

const runExample = `  kube-ipvs run --config /var/lib/kube-proxy/config.conf --hostname-override $(NODE_NAME)
  kube-ipvs run --manifests DIR --hostname-override node-1 --cluster-cidr 10.244.0.0/16,fd00:10:244::/56
  kube-ipvs run --config config.conf --drain-timeout 5m --write-config-to effective.yaml`

type runFlags struct {
	config    *configFlags
	manifests string
	writeTo   string
	initOnly  bool
	cleanup   bool
	version   versionFlag
}

func newRun(env Env) *cobra.Command {
	x := &runFlags{config: newConfigFlags()}
	c := &cobra.Command{
		Use:     "run",
		Short:   "Program Services into the kernel and keep them there",
		Long:    runLong,
		Example: runExample,
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return x.run(c, env) },
	}
	f := c.Flags()
	f.StringVar(&x.manifests, "manifests", "", "directory of manifests that Services come from, in place of the API server")
	f.StringVar(&x.writeTo, "write-config-to", "", "write the configuration of all files and flags to this file and exit")
	f.BoolVar(&x.initOnly, "init-only", false, "do what needs more than CAP_NET_ADMIN and exit")
	f.BoolVar(&x.cleanup, "cleanup", false, "do what kube-ipvs cleanup does and exit")
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

// daemon returns the daemon to run, by the files as they are now.
func (x *runFlags) daemon(env Env) (Daemon, error) {
	c, err := x.config.parse()
	if err != nil {
		return Daemon{}, err
	}
	shown, err := proxyconfig.Configz(c.pair)
	if err != nil {
		return Daemon{}, err
	}
	return Daemon{
		Manifests: x.manifests,
		InitOnly:  x.initOnly,
		Version:   number(env.Build),
		Config:    c.config,
		Warnings:  c.warnings,
		Configz:   shown,
		Files:     c.files,
		Reload:    func() (Daemon, error) { return x.daemon(env) },
	}, nil
}

// write writes the configuration to a file that --config reads.
func (x *runFlags) write(env Env) error {
	c, err := x.config.parse()
	if err != nil {
		return err
	}
	sayAll(env, c.warnings)
	text, err := c.pair.Text()
	if err != nil {
		return err
	}
	if err := os.WriteFile(x.writeTo, text, 0o644); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return nil
}
