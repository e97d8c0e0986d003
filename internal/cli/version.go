// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newVersion(env Env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print the version, the source revision and the compiler of this build.",
		Example: "  kube-ipvs version",
		Args:    noArgs,
		RunE:    func(*cobra.Command, []string) error { return printVersion(env) },
	}
}

func printVersion(env Env) error {
	_, err := fmt.Fprintln(env.Stdout, "kube-ipvs "+version(env.Build))
	return err
}

// versionFlag is --version, which may be true, raw or false, as with kube-proxy.
type versionFlag bool

func (v *versionFlag) add(f *pflag.FlagSet) {
	f.Var(v, "version", "print the version and exit")
	f.Lookup("version").NoOptDefVal = "true"
}

func (*versionFlag) Type() string     { return "bool" }
func (v *versionFlag) String() string { return strconv.FormatBool(bool(*v)) }

func (v *versionFlag) Set(text string) error {
	on, err := strconv.ParseBool(text)
	*v = versionFlag(on || text == "raw")
	if text == "raw" {
		return nil
	}
	return err
}

// version returns "v1.2.3 (revision 0123456789ab, go1.26.0, linux/amd64)".
func version(b *debug.BuildInfo) string {
	if b == nil {
		return "of an unknown version"
	}
	settings := map[string]string{}
	for _, s := range b.Settings {
		settings[s.Key] = s.Value
	}
	var about []string
	if revision := settings["vcs.revision"]; revision != "" {
		about = append(about, "revision "+revision[:min(len(revision), 12)])
	}
	if settings["vcs.modified"] == "true" {
		about = append(about, "modified")
	}
	about = append(about, b.GoVersion)
	if settings["GOOS"] != "" {
		about = append(about, settings["GOOS"]+"/"+settings["GOARCH"])
	}
	return fmt.Sprintf("%s (%s)", number(b), strings.Join(about, ", "))
}

// number returns the version alone: "v1.2.3".
func number(b *debug.BuildInfo) string {
	if b == nil || b.Main.Version == "" {
		return "(devel)"
	}
	return b.Main.Version
}
