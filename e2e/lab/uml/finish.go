// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
)

// logLines is how much of the log of a kernel that died is shown.
const logLines = 30

// statusKilled is the exit status of a command that the kernel killed, for example for lack of memory.
const statusKilled = 128 + int(syscall.SIGKILL)

// finish returns how the command ended, once the kernel has. The job's directory stays only if it holds the log of a
// kernel that died.
func (m *machine) finish(stopped error) (int, error) {
	r, ended, err := m.dir.Result()
	log, _ := os.ReadFile(m.dir.Path(job.LogFile))
	switch {
	case err != nil || r.Failure != "":
		return 0, m.autopsy(string(log), r.Failure, errors.Join(stopped, err))
	case ended:
		if r.Status == statusKilled && strings.Contains(string(log), outOfMemory) {
			fmt.Fprintf(os.Stderr, "lab: the guest ran out of memory; give it more with %s (default %s)\n", EnvMemory, DefaultMemory)
		}
		return r.Status, os.RemoveAll(string(m.dir))
	}
	if s, is := errors.AsType[signalError](stopped); is {
		return 128 + int(s), os.RemoveAll(string(m.dir))
	}
	return 0, m.autopsy(string(log), "", stopped)
}

// autopsy returns the error of a guest that left no exit status, with the end of its log.
func (m *machine) autopsy(log, failure string, err error) error {
	return fmt.Errorf("%s\nthe end of %s:\n%s", cause(log, failure, err), m.dir.Path(job.LogFile), lastLines(log, logLines))
}

// What the kernel logs when it gives up, or kills a process.
const (
	panicked    = "Kernel panic"
	outOfMemory = "Out of memory: Killed process"
)

// cause returns in one sentence why there is no exit status.
func cause(log, failure string, err error) string {
	if failure != "" {
		return "prepare the guest: " + failure
	}
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(log) {
		if i := strings.Index(line, panicked); i >= 0 {
			return "the guest's kernel died before the command ended: " + strings.TrimSpace(line[i:])
		}
	}
	return "the guest's kernel ended before the command did; the host may lack memory for it (" + EnvMemory + ")"
}

// lastLines returns the end of a text, indented.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-n):], "\n  ")
}
