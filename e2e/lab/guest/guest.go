// SPDX-License-Identifier: Apache-2.0

// Package guest is the lab as the first process of a user-mode Linux kernel: it prepares the kernel, runs the job's
// command, hands its streams and its result to the host and powers off.
package guest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/child"
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
)

// Main is the whole life of the guest. It returns only if the kernel refuses to power off, and then the kernel panics.
func Main(dir job.Dir) {
	result, err := live(dir)
	if err != nil {
		result = job.Result{Failure: err.Error()}
	}
	if err := dir.WriteResult(result); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	powerOff()
}

func live(dir job.Dir) (job.Result, error) {
	command, err := dir.Command()
	if err != nil {
		return job.Result{}, err
	}
	if err := furnish(command); err != nil {
		return job.Result{}, err
	}
	status, err := run(command, dir)
	return job.Result{Status: status}, err
}

// furnish turns a bare kernel into one that can run commands.
func furnish(c job.Command) error {
	if err := mountAll(c.Keep); err != nil {
		return err
	}
	version, err := release()
	if err != nil {
		return err
	}
	seed(c.Seed)
	return errors.Join(
		os.Setenv("PATH", child.PathOf(c.Env)),
		installTools(c, version),
		loadModules(c.Modules),
		raiseLimits(),
		nameHost(),
		child.RaiseLoopback(),
	)
}

// run runs the command with its streams on the serial lines.
func run(c job.Command, dir job.Dir) (int, error) {
	out, stdout, err := openStream(outputLine)
	if err != nil {
		return 0, err
	}
	errs, stderr, err := openStream(errorLine)
	if err != nil {
		return 0, err
	}
	line, err := openLine(signalLine)
	if err != nil {
		return 0, err
	}
	if err := dir.MarkBooted(); err != nil {
		return 0, err
	}
	status := start(c, stdout, stderr, readSignals(line))
	child.KillRest()
	stdout.Close()
	stderr.Close()
	limit := time.After(drainTime)
	out.drain(limit)
	errs.drain(limit)
	return status, nil
}

func start(c job.Command, stdout, stderr *os.File, signals <-chan os.Signal) int {
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		fmt.Fprintln(stderr, "lab: give the command an empty input:", err)
		return child.StatusNotExecutable
	}
	defer stdin.Close()
	pid, err := child.Start(child.Command{
		Argv: c.Argv, Env: environ(c.Env), Dir: c.Dir, Files: []*os.File{stdin, stdout, stderr},
	})
	if err != nil {
		fmt.Fprintln(stderr, "lab:", err)
		return child.StartStatus(err)
	}
	status, err := child.Reap(pid, signals)
	if err != nil {
		fmt.Fprintln(stderr, "lab:", err)
	}
	return status
}

// environ returns the command's environment: the host's, with the lab's tools first in PATH.
func environ(host []string) []string {
	path := "PATH=" + strings.TrimSuffix(binFolder+":"+child.PathOf(host), ":")
	env := slices.DeleteFunc(slices.Clone(host), func(e string) bool { return strings.HasPrefix(e, "PATH=") })
	return append(env, path)
}

// powerTime is how long the kernel may take to power off by sysrq: a kernel worker does it.
const powerTime = 5 * time.Second

// powerOff writes everything to the host and ends the kernel. hostfs keeps written pages in the guest until they are
// synced.
func powerOff() {
	unix.Sync()
	if os.WriteFile("/proc/sysrq-trigger", []byte("o"), 0) == nil {
		time.Sleep(powerTime)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
