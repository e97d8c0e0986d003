// SPDX-License-Identifier: Apache-2.0

// Command benchmark measures kube-ipvs and the real kube-proxy side by side, against the same real API server with the
// same objects, and beside them the least that the same rows can cost. A program that did not do what it was timed for
// gets no figure. It needs root and a kernel with IPVS: run it with make bench.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
)

const (
	folder   = "docs/benchmarks"
	kubeIPVS = "bin/kube-ipvs"
)

func main() {
	var err error
	switch verb, rest := append(os.Args, "")[1], os.Args[min(2, len(os.Args)):]; verb {
	case "run":
		err = measure(rest)
	case "render":
		err = attempt(func() { load(folder).render(folder) })
	default:
		err = errors.New("usage: benchmark run [FLAG...], of which --help lists the flags, or benchmark render")
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func measure(arguments []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{site: &site{}, report: Report{Began: time.Now(), Commands: []string{"benchmark run " + strings.Join(arguments, " ")}}}
	err := attempt(func() {
		b.options = parseOptions(arguments)
		b.run(ctx)
	})
	return errors.Join(err, b.site.close(), b.failed)
}

type options struct {
	sizes                              []large.Size
	programs                           []string
	theirs, starts, times              int
	budget, load, steady, limit, whole time.Duration
	rate                               float64
}

const (
	// defaultSizes are in this order as a larger cluster of as many endpoints is made of the one before.
	defaultSizes = "100x10,1000x10,5000x10,10000x10,100x1000,40000x2"
	// mostServices x mostEndpoints is the largest cluster in which kube-proxy is measured beside kube-ipvs.
	mostServices, mostEndpoints = 10000, 10
)

func parseOptions(arguments []string) (o options) {
	flags := flag.NewFlagSet("benchmark run", flag.ContinueOnError)
	sizes := flags.String("sizes", defaultSizes, "Services x endpoints, a `list`")
	programs := flags.String("proxies", ours+","+theirs, "which to measure, a `list`")
	flags.IntVar(&o.theirs, "theirs", mostServices, "up to so many Services kube-proxy is measured beside kube-ipvs")
	flags.IntVar(&o.starts, "starts", 3, "how often to start a program, if it takes no minutes")
	flags.IntVar(&o.times, "times", 100, "how often to make each kind of change")
	flags.DurationVar(&o.budget, "budget", 10*time.Minute, "how long to make changes at most, once each was made three times")
	flags.Float64Var(&o.rate, "rate", 100, "changes a second under load")
	flags.DurationVar(&o.load, "load", time.Minute, "how long the load lasts")
	flags.DurationVar(&o.steady, "steady", time.Minute, "how long to watch a program that has nothing to do")
	flags.DurationVar(&o.limit, "limit", 10*time.Minute, "how long a program may take for a start, for one change, or for the load")
	flags.DurationVar(&o.whole, "whole", 6*time.Hour, "after this time no other program is measured")
	check(flags.Parse(arguments))
	o.sizes = each(strings.Split(*sizes, ","), func(text string) large.Size { return must(large.ParseSize(text)) })
	o.programs = strings.Split(*programs, ",")
	for _, name := range o.programs {
		if name != ours && name != theirs {
			check(fmt.Errorf("%q is neither %s nor %s", name, ours, theirs))
		}
	}
	return o
}

type bench struct {
	*site   // the control plane of sizes that differ in the number of Services alone
	options options
	report  Report
	ended   *programs // nil: the kernel does not report which programs end
	failed  error     // of programs that did not work
}

func (b *bench) say(format string, values ...any) {
	fmt.Printf("%8s  %s\n", time.Since(b.report.Began).Round(time.Second), fmt.Sprintf(format, values...))
}

func (b *bench) run(ctx context.Context) {
	kubeProxy := must(control.Binary("kube-proxy"))
	b.report.Machine = machine(ctx, kubeProxy)
	var err error
	if b.ended, err = watchPrograms(); err != nil {
		b.leave("which programs were run: %v", err)
	}
	for _, size := range b.options.sizes {
		for _, p := range []program{newOurs(kubeIPVS), newTheirs(kubeProxy)} {
			tooLarge := size.Services > b.options.theirs || size.Endpoints > mostEndpoints
			if slices.Contains(b.options.programs, p.name) && (p.name == ours || len(b.options.sizes) == 1 || !tooLarge) {
				b.measure(ctx, size, p)
			}
		}
	}
}

// measure measures a program at a size, and the floor before kube-ipvs, and saves all that is known so far.
func (b *bench) measure(ctx context.Context, size large.Size, p program) {
	if why := b.hopeless(p.name, size); why != "" {
		b.leave("%s at %v: not tried: %s", p.name, size, why)
		return
	}
	b.say("making %v", size)
	b.site.fill(ctx, size)
	r := newRunner(ctx, b, p, size)
	argv := p.commandLine(configurationFile)
	argv[0] = filepath.Base(argv[0])
	if line := strings.Join(argv, " "); !slices.Contains(b.report.Commands, line) {
		b.report.Commands = append(b.report.Commands, line)
	}
	if p.name == ours {
		b.report.Floors = append(b.report.Floors, r.measureFloor(ctx))
	}
	run := r.run(ctx)
	if run.Failure != "" {
		b.failed = errors.Join(b.failed, fmt.Errorf("no figure for %s at %v: %s", p.name, size, run.Failure))
	}
	if run.Failure+run.Exceeded != "" {
		check(b.site.close())
	}
	b.report.Runs = append(b.report.Runs, run)
	b.report.Took = time.Since(b.report.Began).Seconds()
	b.report.save(folder)
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

func (b *bench) leave(format string, values ...any) {
	text := fmt.Sprintf(format, values...)
	b.say("left out: %s", text)
	b.report.Unsaid = append(b.report.Unsaid, text)
}

func machine(ctx context.Context, kubeProxy string) Machine {
	kib, _ := strconv.Atoi(field("/proc/meminfo", `MemTotal:\s+(\d+) kB`)) // digits alone
	return Machine{
		Processors: runtime.NumCPU(), MemoryMiB: kib >> 10, Kernel: "Linux " + field("/proc/sys/kernel/osrelease", `(.*)`),
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

func said(ctx context.Context, argv ...string) string {
	out, _ := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput() // ipset says it, and fails without its module
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(line)
}

// failure is what ends a measurement: whatever goes wrong in one, there is no figure, and what comes after is not
// tried.
type failure struct{ error }

// check, as must, ends what attempt does if err is an error.
func check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

// attempt returns the error that ended work, if one did.
func attempt(work func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = p.error
		default:
			panic(p)
		}
	}()
	work()
	return nil
}
