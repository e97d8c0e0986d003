// SPDX-License-Identifier: Apache-2.0

package space

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// setName is a set that is made to see whether sets work, in a network namespace of its own.
const setName = "LAB-PROBE"

// try does with the kernel, in small, what commands will do.
func try() error {
	if err := tryIPVS(); err != nil {
		return fmt.Errorf("has no IPVS: %w", err)
	}
	if err := tryIpset(); err != nil {
		return fmt.Errorf("has no ipset: %w", err)
	}
	return nil
}

// tryIPVS makes a virtual service and deletes it. A loaded ip_vs proves nothing: in some containers it is there and
// cannot be used.
func tryIPVS() error {
	c, err := dialGeneric()
	if err != nil {
		return err
	}
	defer c.close()
	family, err := c.family("IPVS")
	if errors.Is(err, unix.ENOENT) {
		if err := load("ip_vs"); err != nil {
			return err
		}
		family, err = c.family("IPVS")
	}
	if err != nil {
		return fmt.Errorf("find its netlink family: %w", err)
	}
	if err := c.ask(family, ipvsNewService, probeService()); err != nil {
		return fmt.Errorf("make a virtual service: %w", err)
	}
	if err := c.ask(family, ipvsDelService, probeService()); err != nil {
		return fmt.Errorf("delete a virtual service: %w", err)
	}
	return nil
}

func tryIpset() error {
	// A failure matters only if ipset fails after it.
	_ = load("ip_set")
	if err := runTool("ipset", "create", setName, "hash:ip,port", "comment"); err != nil {
		return err
	}
	return runTool("ipset", "destroy", setName)
}

func load(module string) error { return runTool("modprobe", module) }

// runTool runs a tool whose error output is the best reason to show.
func runTool(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if text := strings.Join(strings.Fields(string(out)), " "); text != "" {
		return errors.New(text)
	}
	return fmt.Errorf("run %s: %w", name, err)
}
