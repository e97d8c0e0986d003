// SPDX-License-Identifier: Apache-2.0

// Package need knows the programs that the lab and its users need on the host. It finds those that are missing and
// installs them on Debian and its like.
package need

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Tool is a program and the Debian package it comes in.
type Tool struct{ Program, Package string }

// ForCommands returns the tools that every command in the lab may use.
func ForCommands() []Tool {
	return []Tool{
		{"ip", "iproute2"},
		{"iptables", "iptables"},
		{"ipset", "ipset"},
		{"modprobe", "kmod"},
	}
}

// ForGuest returns the tools that a user-mode kernel needs besides.
func ForGuest() []Tool {
	return []Tool{{"linux.uml", "user-mode-linux"}, {"xtables-legacy-multi", "iptables"}}
}

// ForDevelopers returns the tools for tests and for use by hand.
func ForDevelopers() []Tool {
	return slices.Concat(ForGuest(), ForCommands(), []Tool{
		{"ipvsadm", "ipvsadm"},
		{"conntrack", "conntrack"},
		{"sysctl", "procps"},
		{"curl", "curl"},
		{"crun", "crun"},
		{"strace", "strace"},
	})
}

// Missing returns the packages of the tools that are not in a search path, each once.
func Missing(tools []Tool, path string) []string {
	var packages []string
	for _, t := range tools {
		if !found(t.Program, path) && !slices.Contains(packages, t.Package) {
			packages = append(packages, t.Package)
		}
	}
	return packages
}

func found(program, path string) bool {
	return slices.ContainsFunc(filepath.SplitList(path), func(folder string) bool {
		info, err := os.Stat(filepath.Join(folder, program))
		return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
	})
}

// Path appends the folders of system tools to a search path. An ordinary user's often lacks them.
func Path(path string) string {
	folders := filepath.SplitList(path)
	for _, f := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(folders, f) {
			folders = append(folders, f)
		}
	}
	return strings.Join(folders, string(filepath.ListSeparator))
}
