// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The serial lines that lead to the host.
const (
	outputLine = "/dev/ttyS0"
	errorLine  = "/dev/ttyS1"
	signalLine = "/dev/ttyS2"
)

// drainTime is how long the last output may take to reach the host once the command and all other processes are gone.
const drainTime = 10 * time.Second

// openLine opens a serial line as a plain channel of bytes. It blocks: the line has no use for the poller.
func openLine(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open serial line %s: %w", path, err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		makeRaw(t)
		err = unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}
	if err != nil {
		return nil, fmt.Errorf("make serial line %s raw: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// makeRaw is cfmakeraw: without it the line turns \n into \r\n, echoes, and drops control characters.
func makeRaw(t *unix.Termios) {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
}

// stream is one output of the command on its way to the host. The command gets a pipe, not the line: programs behave
// differently on a terminal.
type stream struct {
	line *os.File
	pipe *os.File
	done chan struct{}
}

// openStream returns the stream and the command's end of it.
func openStream(path string) (*stream, *os.File, error) {
	line, err := openLine(path)
	if err != nil {
		return nil, nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make pipe for %s: %w", path, err)
	}
	s := &stream{line: line, pipe: r, done: make(chan struct{})}
	go s.copy()
	return s, w, nil
}

func (s *stream) copy() {
	defer close(s.done)
	// A line that the host no longer reads is no reason to stop the command.
	_, _ = io.CopyBuffer(onlyWriter{s.line}, s.pipe, make([]byte, 64<<10))
}

// onlyWriter hides ReadFrom: splicing a pipe into a terminal goes by the page and gains nothing.
type onlyWriter struct{ io.Writer }

// drain waits until all output has reached the host.
func (s *stream) drain(limit <-chan time.Time) {
	select {
	case <-s.done:
		// TCSBRK with an argument is tcdrain.
		_ = unix.IoctlSetInt(int(s.line.Fd()), unix.TCSBRK, 1)
	case <-limit:
	}
}

// readSignals turns the bytes of a line into signals.
func readSignals(line io.Reader) <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := line.Read(b); err != nil {
				return
			}
			signals <- syscall.Signal(b[0])
		}
	}()
	return signals
}
