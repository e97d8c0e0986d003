// SPDX-License-Identifier: Apache-2.0

// Command sbom writes the software bill of materials of one image, as SPDX 2.3 in JSON: the Go modules that are linked
// into the program, and the Debian packages beside it. It reads what the build left behind, and asks no network. The
// same input gives the same bytes. It is part of make image, and of no image.
package main

import (
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spdx/tools-golang/json"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// epochEnv is the time that a reproducible build has in place of now.
const epochEnv = "SOURCE_DATE_EPOCH"

func run(args []string) error {
	f := flag.NewFlagSet("sbom", flag.ContinueOnError)
	name := f.String("image", "", "name of the image")
	arch := f.String("arch", "", "architecture of the image, as Go calls it")
	program := f.String("program", "", "file of the program")
	root := f.String("debian", "", "tar of the Debian packages; empty: there are none")
	out := f.String("out", "", "file to write")
	if err := f.Parse(args); err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(os.Getenv(epochEnv), 10, 64)
	if err != nil {
		return fmt.Errorf("reading %s: %w", epochEnv, err)
	}
	about, err := buildinfo.ReadFile(*program)
	if err != nil {
		return fmt.Errorf("reading the modules of %s: %w", *program, err)
	}
	c, err := newContents(*name, *arch, about, time.Unix(seconds, 0).UTC())
	if err != nil {
		return err
	}
	if err := c.addProgram(*program, about); err != nil {
		return err
	}
	if *root != "" {
		if err := c.addDebian(*root); err != nil {
			return err
		}
	}
	return write(*out, c)
}

func write(name string, c *contents) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := json.Write(c.document(), f, json.Indent("  "), json.EscapeHTML(false)); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
