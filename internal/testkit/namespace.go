// SPDX-License-Identifier: Apache-2.0

// Package testkit is what tests share: network namespaces, the contract that every Store passes (in memory or real),
// and waits for goroutines. Only tests import it.
package testkit

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace moves the calling test into a new network namespace with lo up. The namespace ends with the test: the
// goroutine keeps its thread, and the Go runtime destroys a thread whose goroutine ends without unlocking it.
//
// Subtests run in goroutines of their own, outside the namespace: call it in each of them instead.
//
// A kernel without IPVS fails the test instead of skipping it: such tests run in the lab, which has one.
func Namespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace: %v (kernel tests need root; run them with make test, or with go test -exec bin/lab)", err)
	}
	// /proc/net would show the namespace of the process's first thread.
	if _, err := os.Stat("/proc/thread-self/net/ip_vs"); err != nil {
		t.Fatalf("this kernel has no IPVS: %v (run kernel tests with make test, or with go test -exec bin/lab)", err)
	}
	if err := raise("lo"); err != nil {
		t.Fatalf("setting lo up: %v", err)
	}
}

func raise(link string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(link)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
