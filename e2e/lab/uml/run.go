// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
)

const (
	// bootTime is how long a guest may take to boot; it needs less than a second on an idle machine.
	bootTime = 30 * time.Second
	// bootPoll is how often the lab checks whether it has.
	bootPoll = 20 * time.Millisecond
	// graceTime is how long a command may take to end after a signal before the guest is stopped.
	graceTime = 10 * time.Second
)

// Run boots the kernel, runs the command in it, passes signals on to the command and returns its exit status.
func Run(k Kernel, c job.Command, memory string, signals <-chan os.Signal) (int, error) {
	size, err := parseMemory(memory)
	if err != nil {
		return 0, err
	}
	place, err := memoryFolder(size)
	if err != nil {
		return 0, err
	}
	if err := allowMaps(size); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err) // it may need no more
	}
	c.Modules = k.Modules
	dir, err := newJob(c)
	if err != nil {
		return 0, err
	}
	m, err := start(k, dir, memory, place)
	if err != nil {
		return 0, errors.Join(err, os.RemoveAll(string(dir)))
	}
	stopped := m.watch(signals)
	m.streams.Wait()
	return m.finish(stopped)
}

// watch waits for the end of the kernel and stops it where it must. It returns why it did.
func (m *machine) watch(signals <-chan os.Signal) error {
	booting := time.NewTicker(bootPoll)
	defer booting.Stop()
	late := time.NewTimer(bootTime)
	defer late.Stop()
	var grace <-chan time.Time
	var stopped error
	for {
		select {
		case <-m.exited:
			return stopped
		case <-booting.C:
			if m.dir.Booted() {
				booting.Stop()
				late.Stop()
			}
		case <-late.C:
			stopped = errLate
			m.kill()
		case <-grace:
			m.kill()
		case s := <-signals:
			if stopped != nil || !m.dir.Booted() {
				m.kill()
			}
			stopped = signalError(s.(syscall.Signal))
			m.signal(s.(syscall.Signal))
			grace = time.After(graceTime)
		}
	}
}

// errLate is the error of a guest that does not boot.
var errLate = fmt.Errorf("the guest's kernel has not come up in %v", bootTime)

// signalError is the reason of a guest that was stopped by a signal.
type signalError syscall.Signal

func (s signalError) Error() string { return "stopped by " + syscall.Signal(s).String() }
