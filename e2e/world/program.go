// SPDX-License-Identifier: Apache-2.0

package world

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Program is a program that runs on a host. Its starter must end it.
type Program struct {
	// Log is the file with its output.
	Log string

	name    string
	process *os.Process
	ended   chan struct{}
	err     error
}

// Launch starts a program whose output goes to a new file in a folder.
func (h *Host) Launch(folder string, argv ...string) (*Program, error) {
	return h.LaunchWith(folder, nil, argv...)
}

// LaunchWith is Launch with more variables in the program's environment.
func (h *Host) LaunchWith(folder string, environment []string, argv ...string) (*Program, error) {
	name := filepath.Base(argv[0])
	log, err := os.CreateTemp(folder, name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("make the log of %s: %w", name, err)
	}
	defer log.Close()
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdout, c.Stderr = log, log
	c.Env = append(os.Environ(), environment...)
	// A terminal's ^C is for the starter, which ends the program in its own way.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.Start(c); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	p := &Program{Log: log.Name(), name: name, process: c.Process, ended: make(chan struct{})}
	go func() {
		p.err = c.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Pid returns its process number.
func (p *Program) Pid() int { return p.process.Pid }

// Ended is closed once the program has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// Err returns how an ended program ended.
func (p *Program) Err() error { return p.err }

// Alive returns an error if the program has ended.
func (p *Program) Alive() error {
	select {
	case <-p.ended:
		return errors.Join(fmt.Errorf("%s has ended", p.name), p.err)
	default:
		return nil
	}
}

// Signal sends a signal to the program.
func (p *Program) Signal(s os.Signal) error {
	if err := p.process.Signal(s); err != nil {
		return fmt.Errorf("send %v to %s: %w", s, p.name, err)
	}
	return nil
}

// Stop ends the program with SIGTERM, or after a time with SIGKILL, and returns an error unless it ended well.
func (p *Program) Stop(limit time.Duration) error {
	if err := errors.Join(p.Alive(), p.Signal(syscall.SIGTERM)); err != nil {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.name, limit)
	}
	if p.err != nil {
		return fmt.Errorf("%s did not end well: %w", p.name, p.err)
	}
	return nil
}

// Kill ends the program at once.
func (p *Program) Kill() {
	_ = p.process.Kill() // it may have ended by itself
	<-p.ended
}

// LastWords returns the last lines of the program's log.
func (p *Program) LastWords(lines int) string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
