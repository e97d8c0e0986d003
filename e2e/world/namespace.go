// SPDX-License-Identifier: Apache-2.0

package world

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace without a name: it lives as long as this file, and sockets and processes in it.
type namespace struct{ file *os.File }

// here returns the namespace of the calling thread.
func here() (namespace, error) {
	f, err := os.Open("/proc/thread-self/ns/net")
	return namespace{f}, err
}

func newNamespace() (namespace, error) {
	var made namespace
	err := elsewhere(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		made, err = here()
		return err
	})
	if err != nil {
		return namespace{}, fmt.Errorf("make a network namespace: %w", err)
	}
	return made, nil
}

// do calls f on a thread in the namespace.
func (n namespace) do(f func() error) error { return elsewhere(n.enter, f) }

func (n namespace) enter() error {
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	return nil
}

// elsewhere takes the thread somewhere with leave, calls f there and brings the thread back.
func elsewhere(leave, f func() error) (err error) {
	runtime.LockOSThread()
	home, err := here()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.file.Close()
	if err := leave(); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	// Deferred, so that the thread also comes back when f ends the goroutine, as Fatal does.
	defer func() {
		if back := home.enter(); back != nil {
			// A thread that is lost stays locked, so that no other goroutine gets it.
			err = errors.Join(err, back)
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}
