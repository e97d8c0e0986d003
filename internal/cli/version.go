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
		Short:   "Print which build this is",
		Long:    "Print the version, and the source revision and compiler that it was built from.",
		Example: "  kube-ipvs version",
		Args:    noArgs,
		RunE:    func(*cobra.Command, []string) error { return printVersion(env) },
	}
}

func printVersion(env Env) error {
	_, err := fmt.Fprintln(env.Stdout, "kube-ipvs "+version(env.Build))
	return err
}

// asked is the flag --version, which kube-proxy lets be true, raw, or false.
type asked bool

func (a *asked) add(f *pflag.FlagSet) {
	f.Var(a, "version", "print which build this is, and end")
	f.Lookup("version").NoOptDefVal = "true"
}

func (*asked) Type() string     { return "bool" }
func (a *asked) String() string { return strconv.FormatBool(bool(*a)) }

func (a *asked) Set(text string) error {
	on, err := strconv.ParseBool(text)
	*a = asked(on || text == "raw")
	if text == "raw" {
		return nil
	}
	return err
}

// version is "v1.2.3 (revision 0123456789ab, go1.26.0, linux/amd64)".
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

// number is the version alone: "v1.2.3".
func number(b *debug.BuildInfo) string {
	if b == nil || b.Main.Version == "" {
		return "(devel)"
	}
	return b.Main.Version
}
