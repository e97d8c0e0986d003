// SPDX-License-Identifier: Apache-2.0

package child

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// FromTerminal reports whether a signal was typed at the terminal. A terminal sends it to all processes in the
// foreground, so the command already has it.
func FromTerminal(s os.Signal) bool {
	return (s == syscall.SIGINT || s == syscall.SIGQUIT) && inForeground()
}

func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
