// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/benchmark/observe"
	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
)

// bench is one run of everything.
type bench struct {
	options  options
	report   Report
	site     *site // the control plane of sizes that differ in the number of Services alone
	programs *observe.Programs
}

func (b *bench) say(format string, values ...any) {
	fmt.Printf("%8s  %s\n", time.Since(b.report.Began).Round(time.Second), fmt.Sprintf(format, values...))
}

// run measures all programs at all sizes.
func (b *bench) run(ctx context.Context) {
	kubeProxy := must(control.Binary("kube-proxy"))
	must(os.Stat(b.options.path))
	check(os.MkdirAll(b.options.folder, 0o755))
	b.report.Machine = machine(ctx, b.options.path, kubeProxy)
	var err error
	if b.programs, err = observe.WatchPrograms(); err != nil {
		b.leave("which programs were run: %v", err)
	} else {
		defer b.programs.Close()
	}
	for _, size := range b.options.sizes {
		for _, p := range []program{newOurs(b.options.path), newTheirs(kubeProxy)} {
			if !b.options.measures(p.name, size) {
				continue
			}
			if err := attempt(func() { b.prepare(ctx, size) }); err != nil {
				b.leave("%s at %v: there is no such cluster: %v", p.name, size, err)
				check(errors.Join(ctx.Err(), b.site.close()))
				continue
			}
			b.measure(ctx, size, p)
		}
	}
}

// prepare makes the objects of a size, in the control plane of the size before if it only lacks some.
func (b *bench) prepare(ctx context.Context, size large.Size) {
	if size.Endpoints != b.site.size.Endpoints || size.Services < b.site.size.Services {
		check(b.site.close())
		b.say("starting a control plane")
		b.site.open(ctx)
	}
	if more := size.Services - b.site.size.Services; more > 0 {
		b.say("making %d Services with %d endpoints each", more, size.Endpoints)
		b.site.fill(ctx, size)
	}
}

// measure measures a program at a size, and the floor before kube-ipvs, and saves all that is known so far. A program
// that did not come to its end may have left changes in the control plane.
func (b *bench) measure(ctx context.Context, size large.Size, p program) {
	if why := b.hopeless(p.name, size); why != "" {
		b.leave("%s at %v: not tried: %s", p.name, size, why)
		return
	}
	r := newRunner(ctx, b.site, p, size, b.options)
	r.say, r.programs = b.say, b.programs
	if line := r.command(); !slices.Contains(b.report.Commands, line) {
		b.report.Commands = append(b.report.Commands, line)
	}
	if p.name == ours && slices.Contains(b.options.phases, least) {
		b.report.Floors = append(b.report.Floors, r.measureFloor(ctx))
	}
	run := r.run(ctx)
	if run.Failure+run.Exceeded != "" {
		check(b.site.close())
	}
	b.report.Runs = append(b.report.Runs, run)
	b.report.Took = time.Since(b.report.Began).Seconds()
	b.report.save(b.options.folder)
	check(ctx.Err())
}

// hopeless says why a program is not tried: it ran out of time with fewer Services, or the benchmark did.
func (b *bench) hopeless(program string, size large.Size) string {
	if time.Since(b.report.Began) > b.options.whole {
		return fmt.Sprintf("the bench had its %v", b.options.whole)
	}
	for _, r := range b.report.Runs {
		if r.Program == program && r.Services < size.Services && r.Endpoints == size.Endpoints && r.Exceeded != "" && len(r.Cold) == 0 {
			return fmt.Sprintf("at %dx%d %s", r.Services, r.Endpoints, r.Exceeded)
		}
	}
	return ""
}

// leave notes what is left out.
func (b *bench) leave(format string, values ...any) {
	text := fmt.Sprintf(format, values...)
	b.say("left out: %s", text)
	b.report.Unsaid = append(b.report.Unsaid, text)
}

// verdict is an error if a program was measured that did not work.
func (b *bench) verdict() (err error) {
	for _, r := range b.report.Runs {
		if r.Failure != "" {
			err = errors.Join(err, fmt.Errorf("no figure for %s at %dx%d: %s", r.Program, r.Services, r.Endpoints, r.Failure))
		}
	}
	return err
}

// machine is where this runs, as far as the kernel reports it.
func machine(ctx context.Context, kubeIPVS, kubeProxy string) Machine {
	kib, _ := strconv.Atoi(field("/proc/meminfo", `MemTotal:\s+(\d+) kB`)) // digits alone
	return Machine{
		Processors: runtime.NumCPU(), MemoryMiB: kib >> 10, Kernel: "Linux " + kernelRelease(),
		Processor: field("/proc/cpuinfo", `(?m)^model name\s*: (.*)$`), Host: field("/proc/cpuinfo", `(?m)^host\s*: (.*)$`),
		Versions: map[string]string{
			ours: said(ctx, kubeIPVS, "version"), theirs: said(ctx, kubeProxy, "--version"),
			"iptables": said(ctx, "iptables", "--version"), "ipset": said(ctx, "ipset", "--version"), "Go": runtime.Version(),
		},
	}
}

// field is what the group of an expression finds in a file.
func field(path, expression string) string {
	text, _ := os.ReadFile(path) // a file that cannot be read has no fields
	if m := regexp.MustCompile(expression).FindSubmatch(text); m != nil {
		return string(bytes.TrimSpace(m[1]))
	}
	return ""
}

// said is the first line that a program writes.
func said(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n")); err == nil || len(line) > 0 {
		return string(line)
	}
	return err.Error()
}
