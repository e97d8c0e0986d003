// SPDX-License-Identifier: Apache-2.0

// Package job is how the lab on the host and the lab inside the guest kernel talk: a directory with the command to run,
// a sign of life, and the result. It handles files only.
package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// EnvName is a kernel argument, and so an environment variable of the guest's first process. It names the job's
// directory.
const EnvName = "LAB_JOB"

// The files of a job's directory.
const (
	commandFile = "command.json"
	bootedFile  = "booted"
	resultFile  = "result.json"
	// LogFile takes what the guest's kernel prints.
	LogFile = "kernel.log"
	// InitFile is the name under which the guest's kernel starts the lab.
	InitFile = "init"
)

// Command is what the guest has to run.
type Command struct {
	Argv []string
	Env  []string
	// Dir is the working directory.
	Dir string
	// Modules is the folder of the guest kernel's modules; empty if everything is built in.
	Modules string
	// NFT chooses the nftables kind of iptables, which only some kernels support.
	NFT bool
	// Seed is randomness from the host for the guest kernel.
	Seed []byte
	// Keep lists paths that must be the host's inside the guest, even below a mount of the guest's own.
	Keep []string
}

// Result is how the command ended.
type Result struct {
	Status int
	// Failure is why the command could not be run; Status then means nothing.
	Failure string `json:",omitempty"`
}

// Dir is a job's directory, seen from either side.
type Dir string

// Path returns the path of one file in the directory.
func (d Dir) Path(file string) string { return filepath.Join(string(d), file) }

// WriteCommand stores what to run.
func (d Dir) WriteCommand(c Command) error { return d.write(commandFile, c) }

// Command loads what to run.
func (d Dir) Command() (Command, error) {
	var c Command
	if err := d.read(commandFile, &c); err != nil {
		return Command{}, err
	}
	if len(c.Argv) == 0 {
		return Command{}, fmt.Errorf("read %s: no command in it", d.Path(commandFile))
	}
	return c, nil
}

// WriteResult stores how the command ended.
func (d Dir) WriteResult(r Result) error { return d.write(resultFile, r) }

// Result loads how the command ended; false if the guest stopped before it could write that.
func (d Dir) Result() (Result, bool, error) {
	var r Result
	err := d.read(resultFile, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return Result{}, false, nil
	}
	return r, err == nil, err
}

// MarkBooted notes that the guest's kernel is up.
func (d Dir) MarkBooted() error { return d.write(bootedFile, true) }

// Booted reports whether the guest's kernel is up.
func (d Dir) Booted() bool {
	_, err := os.Stat(d.Path(bootedFile))
	return err == nil
}

// write makes the file appear whole: the other side is another kernel, which may read at any moment, and this one may
// be powered off right after.
func (d Dir) write(file string, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	f, err := os.CreateTemp(string(d), file+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", d.Path(file), err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), d.Path(file))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", d.Path(file), err)
	}
	return nil
}

func (d Dir) read(file string, v any) error {
	content, err := os.ReadFile(d.Path(file))
	if err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	if err := json.Unmarshal(content, v); err != nil {
		return fmt.Errorf("decode %s: %w", d.Path(file), err)
	}
	return nil
}
