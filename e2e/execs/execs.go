// SPDX-License-Identifier: Apache-2.0

// Package execs records which programs a program executes, with strace. It also sees attempts that fail, which a count
// of the kernel's processes does not.
package execs

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Exec is one attempt to execute a program.
type Exec struct {
	Process int
	Program string
	Failed  string // the kernel's name of the error; empty if it was executed
}

// Trace returns a command line that runs argv, and records in a file what it and its children execute. The process
// number of the command is that of argv, and signals reach it: strace watches from aside.
func Trace(file string, argv ...string) []string {
	// --seccomp-bpf: other system calls are not stopped, and cost nothing.
	return append([]string{
		"strace", "--daemonize=grandchild", "--follow-forks", "--seccomp-bpf", "--quiet=attach,personality,thread-execve", "--signal=none",
		"--string-limit=512", "--trace=execve,execveat", "--output=" + file, "--",
	}, argv...)
}

// Read returns what has been executed so far, in order, beginning with the traced program, and whether all traced
// processes have ended.
func Read(file string) (all []Exec, ended bool, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, false, fmt.Errorf("reading what was executed: %w", err)
	}
	running := map[int]bool{}
	for line := range strings.Lines(string(text)) {
		m := record.FindStringSubmatch(line)
		if m == nil {
			return nil, false, fmt.Errorf("%s: unknown line %q", file, line)
		}
		process, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, false, fmt.Errorf("%s: line %q: %w", file, line, err)
		}
		if call := attempt.FindStringSubmatch(m[2]); call != nil {
			all = append(all, Exec{process, call[1], ""})
		}
		if failure := failed.FindStringSubmatch(m[2]); failure != nil {
			all = markFailed(all, process, failure[1])
		}
		running[process] = !strings.HasPrefix(m[2], "+++")
	}
	ended = len(running) > 0
	for _, is := range running {
		ended = ended && !is
	}
	return all, ended, nil
}

// markFailed notes that the last attempt of a process failed: strace divides a line if another process comes between.
func markFailed(all []Exec, process int, why string) []Exec {
	for i := range slices.Backward(all) {
		if all[i].Process == process {
			all[i].Failed = why
			break
		}
	}
	return all
}

// Lines of strace: "720   execve("/usr/bin/ls", ["ls"], 0x5 /* 36 vars */) = -1 ENOENT (No such file or directory)".
var (
	record  = regexp.MustCompile(`^(\d+) +(.*)\n?$`)
	attempt = regexp.MustCompile(`^execve(?:at\(\w+, |\()"([^"]*)"`)
	failed  = regexp.MustCompile(`\) += -1 (E\w+)`)
)
