// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// EnvMirror names a mirror of Debian for machines that have none among their own package sources.
const EnvMirror = "LAB_MIRROR"

// keyring has the keys of all releases. It comes with every Debian, and as a package with the like.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// releases are those that have sources of a wanted kernel.
func releases() []string { return []string{"trixie", "trixie-backports", "sid"} }

// archive is a view of Debian's archive that has nothing to do with the packages of this machine: it has its own lists.
type archive struct {
	folder string
	run    runner
}

// openArchive fetches the lists of packages.
func openArchive(folder, mirror string, run runner) (archive, error) {
	if _, err := os.Stat(keyring); err != nil {
		return archive{}, fmt.Errorf("find the keys of Debian's archive (%w): apt-get install debian-archive-keyring", err)
	}
	a := archive{folder, run}
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(folder, sub), 0o755); err != nil {
			return archive{}, err
		}
	}
	var list strings.Builder
	for _, release := range releases() {
		fmt.Fprintf(&list, "deb [signed-by=%s] %s %s main\n", keyring, mirror, release)
	}
	if err := os.WriteFile(filepath.Join(folder, "sources.list"), []byte(list.String()), 0o644); err != nil {
		return archive{}, err
	}
	// A mirror may lack a release. What it has is enough if the wanted package is there.
	updating := run.logged(folder, "apt-get", a.options("-q", "update")...)
	names, err := a.names()
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s has no package %s*: %w", mirror, packagePrefix, errors.Join(updating, errNotThere))
	}
	return a, err
}

var errNotThere = errors.New("not a mirror of Debian, or not reachable")

// options returns the arguments with which apt uses the archive's own lists, without what describes packages.
func (a archive) options(args ...string) []string {
	var options []string
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + filepath.Join(a.folder, "sources.list"), "Dir::Etc::sourceparts=-",
		"Dir::State::lists=" + filepath.Join(a.folder, "lists"), "Dir::Cache=" + filepath.Join(a.folder, "cache"),
		"Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false", "APT::Sandbox::User=root",
	} {
		options = append(options, "-o", o)
	}
	return append(options, args...)
}

// names returns the names of all packages of kernel sources.
func (a archive) names() ([]string, error) {
	out, err := a.run.output("apt-cache", a.options("pkgnames", packagePrefix)...)
	return strings.Fields(out), err
}

// newest returns the newest package of a series, and its newest version. The preferences of this machine do not matter:
// they are about what it installs.
func (a archive) newest(series Series) (name, version string, err error) {
	names, err := a.names()
	if err != nil {
		return "", "", err
	}
	name, ok := series.newestOf(names)
	if !ok {
		return "", "", fmt.Errorf("find sources of kernel %s: Debian now has only %s", series, strings.Join(names, " "))
	}
	table, err := a.run.output("apt-cache", a.options("madison", name)...)
	if err != nil {
		return "", "", err
	}
	for _, v := range versions(table, name) {
		if version == "" || a.run.logged(a.folder, "dpkg", "--compare-versions", v, "gt", version) == nil {
			version = v
		}
	}
	if version == "" {
		return "", "", fmt.Errorf("find the version of %s: apt-cache madison printed %q", name, table)
	}
	return name, version, nil
}

// versions reads the lines of apt-cache madison: "name | version | where".
func versions(table, name string) []string {
	var all []string
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == name && f[1] == "|" {
			all = append(all, f[2])
		}
	}
	return all
}

// download fetches a package, checked by apt, and returns its file.
func (a archive) download(name, version string) (string, error) {
	if err := a.run.logged(a.folder, "apt-get", a.options("-q", "download", name+"="+version)...); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	files, err := filepath.Glob(filepath.Join(a.folder, name+"_*.deb"))
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("download %s: got %q", name, files)
	}
	if err != nil {
		return "", err
	}
	return files[0], nil
}

// findMirror returns the mirror of Debian that this machine uses.
func findMirror(getenv func(string) string, run runner) (string, error) {
	if mirror := getenv(EnvMirror); mirror != "" {
		return mirror, nil
	}
	const fields = "$(ORIGIN) $(LABEL) $(REPO_URI)"
	out, err := run.output("apt-get", "indextargets", "--format", fields, "Created-By: Packages")
	if err != nil {
		return "", err
	}
	mirror, ok := mirrorIn(out)
	if !ok {
		return "", fmt.Errorf("this machine's package lists are of no mirror of Debian: run apt-get update, or name one with %s", EnvMirror)
	}
	return mirror, nil
}

// mirrorIn returns the first mirror of Debian itself. Debian's security updates have another label.
func mirrorIn(targets string) (string, bool) {
	for line := range strings.Lines(targets) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Debian" && f[1] == "Debian" {
			return f[2], true
		}
	}
	return "", false
}
