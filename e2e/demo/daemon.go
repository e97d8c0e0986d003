// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
)

const (
	// stopTime is how long kube-ipvs may take to end.
	stopTime = 15 * time.Second
	// logLines is how much of its log is shown after a failure.
	logLines = 30
)

// daemon is a kube-ipvs that runs on a node.
type daemon struct {
	command *exec.Cmd
	log     string
	// ended is closed when it has ended; err is how.
	ended chan struct{}
	err   error
}

func startDaemon(node *world.Host, log string, argv ...string) (*daemon, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("make a log for kube-ipvs: %w", err)
	}
	defer f.Close()
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdout, c.Stderr = f, f
	// The terminal's ^C is for the demo, which then ends kube-ipvs in its own way.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := node.Start(c); err != nil {
		return nil, fmt.Errorf("start kube-ipvs: %w", err)
	}
	d := &daemon{command: c, log: log, ended: make(chan struct{})}
	go func() {
		d.err = c.Wait()
		close(d.ended)
	}()
	return d, nil
}

// stop ends kube-ipvs with SIGTERM, and with SIGKILL after a while.
func (d *daemon) stop() error {
	if err := d.alive(); err != nil {
		return err
	}
	_ = d.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(stopTime):
		_ = d.command.Process.Kill()
		<-d.ended
		return fmt.Errorf("kube-ipvs did not end within %v of SIGTERM", stopTime)
	}
	if d.err != nil {
		return fmt.Errorf("kube-ipvs did not end well: %w", d.err)
	}
	return nil
}

// alive returns an error if kube-ipvs has ended by itself.
func (d *daemon) alive() error {
	select {
	case <-d.ended:
		return errors.Join(errors.New("kube-ipvs ended by itself"), d.err)
	default:
		return nil
	}
}

// lastWords returns the end of its log.
func (d *daemon) lastWords() string {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}
