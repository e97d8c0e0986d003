// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openFiles is how many files a process may have open: a test of a large cluster needs more than the kernel's 1024.
const openFiles = 1 << 20

// release returns the version of the running kernel, which is the name of its module folder.
func release() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("ask the kernel for its version: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

func raiseLimits() error {
	limit := unix.Rlimit{Cur: openFiles, Max: openFiles}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}

// nameHost gives the guest a host name: it has none at first, and programs of nodes need one.
func nameHost() error {
	if err := unix.Sethostname([]byte("lab")); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	return nil
}

// seed gives the kernel randomness from the host, so that nothing has to wait for it.
func seed(bytes []byte) {
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	// struct rand_pool_info: bits of entropy, size in bytes, then the bytes.
	pool := struct {
		bits, size int32
		bytes      [64]byte
	}{}
	n := copy(pool.bytes[:], bytes)
	pool.bits, pool.size = int32(8*n), int32(n)
	// It only makes a boot quicker: the kernel gathers its own if this is refused.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool)))
}
