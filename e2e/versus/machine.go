// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
)

// machine is where this runs, as far as the kernel tells.
func machine(ctx context.Context, ours, theirs string) report.Machine {
	m := report.Machine{
		Processors: runtime.NumCPU(), Kernel: "Linux " + kernelRelease(), Processor: cpuField("model name"), Host: cpuField("host"),
		Versions: map[string]string{
			report.Ours: said(ctx, ours, "version"), report.Theirs: said(ctx, theirs, "--version"),
			"iptables": said(ctx, "iptables", "--version"), "ipset": said(ctx, "ipset", "--version"), "Go": runtime.Version(),
		},
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if found := regexp.MustCompile(`MemTotal:\s+(\d+) kB`).FindSubmatch(text); found != nil {
			kib, _ := strconv.Atoi(string(found[1])) // digits alone
			m.MemoryMiB = kib >> 10
		}
	}
	return m
}

// cpuField is what the kernel says of its first processor.
func cpuField(name string) string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// said is the first line that a program says; what it says of its failure, if it fails.
func said(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	if err != nil && len(line) == 0 {
		return err.Error()
	}
	return string(line)
}
