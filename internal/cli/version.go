// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func newVersion(env Env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print which build this is",
		Long:    "Print the version, and the source revision and compiler that it was built from.",
		Example: "  kube-ipvs version",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(env.Stdout, "kube-ipvs "+version(env.Build))
			return err
		},
	}
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
	number := b.Main.Version
	if number == "" {
		number = "(devel)"
	}
	return fmt.Sprintf("%s (%s)", number, strings.Join(about, ", "))
}
