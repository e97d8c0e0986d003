// SPDX-License-Identifier: Apache-2.0

// Command benchmark measures kube-ipvs and the real kube-proxy side by side, against the same real API server with
// the same objects, and beside them the least that the same rows can cost. A program that did not do what it was
// timed for gets no figure. It needs root and a kernel with IPVS: run it with make bench.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

const usage = `usage: benchmark run [FLAG...]      measure, and write results, a table and charts
       benchmark render [FOLDER]   write the table and charts of earlier results anew

benchmark run --help lists the flags. UPSTREAM names the folder of etcd, kube-apiserver and kube-proxy.
`

const statusFailed, statusUsage = 1, 2

func main() { os.Exit(run(os.Args[1:])) }

func run(arguments []string) int {
	var err error
	switch verb, rest := append(arguments, "")[0], arguments[min(1, len(arguments)):]; verb {
	case "run":
		err = measure(rest)
	case "render":
		folder := append(rest, defaultFolder)[0]
		err = attempt(func() { load(folder).render(folder) })
	default:
		fmt.Fprint(os.Stderr, usage)
		return statusUsage
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		return statusFailed
	}
	return 0
}

func measure(arguments []string) error {
	o, err := parseOptions(arguments)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{options: o, site: &site{}, report: Report{Began: time.Now(), Commands: []string{"benchmark run " + strings.Join(arguments, " ")}}}
	return errors.Join(attempt(func() { b.run(ctx) }), b.site.close(), b.verdict())
}

// options are what is measured, and how often.
type options struct {
	sizes                              []large.Size
	programs, phases                   []string
	routed, theirs, starts, times      int
	budget, load, steady, limit, whole time.Duration
	rate                               float64
	folder, path                       string
}

const (
	// defaultSizes are in this order as a larger cluster of as many endpoints is made of the one before.
	defaultSizes  = "100x10,1000x10,5000x10,10000x10,100x1000,40000x2"
	defaultFolder = "docs/benchmarks"
	// mostServices x mostEndpoints is the largest cluster in which kube-proxy is measured beside kube-ipvs.
	mostServices, mostEndpoints = 10000, 10
	// tooMany addresses take too long to give to a device one by one.
	tooMany = 20000
)

// phases are the names of all measurements.
func phases() []string {
	return append(each(measurements(), func(m measurement) string { return m.name }), least)
}

func parseOptions(arguments []string) (o options, err error) {
	flags := flag.NewFlagSet("benchmark run", flag.ContinueOnError)
	sizes := flags.String("sizes", defaultSizes, "Services x endpoints, a `list`")
	programs := flags.String("proxies", ours+","+theirs, "which to measure, a `list`")
	what := flags.String("phases", strings.Join(phases(), ","), "what to measure, a `list`")
	flags.IntVar(&o.routed, "routed", tooMany, "from so many Services on kube-ipvs uses vipBinding: route")
	flags.IntVar(&o.theirs, "theirs", mostServices, "up to so many Services kube-proxy is measured beside kube-ipvs")
	flags.IntVar(&o.starts, "starts", 3, "how often to start a program, if it takes no minutes")
	flags.IntVar(&o.times, "times", 100, "how often to make each kind of change")
	flags.DurationVar(&o.budget, "budget", 10*time.Minute, "how long to make changes at most, once each was made three times")
	flags.Float64Var(&o.rate, "rate", 100, "changes a second under load")
	flags.DurationVar(&o.load, "load", time.Minute, "how long the load lasts")
	flags.DurationVar(&o.steady, "steady", time.Minute, "how long to watch a program that has nothing to do")
	flags.DurationVar(&o.limit, "limit", 10*time.Minute, "how long a program may take for a start, or for one change")
	flags.DurationVar(&o.whole, "whole", 6*time.Hour, "after this time no other program is measured")
	flags.StringVar(&o.folder, "out", defaultFolder, "the `folder` for the results")
	flags.StringVar(&o.path, "kube-ipvs", "bin/kube-ipvs", "the `program` to measure")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		size, err := large.ParseSize(text)
		if err != nil {
			return o, err
		}
		o.sizes = append(o.sizes, size)
	}
	o.programs, o.phases = strings.Split(*programs, ","), strings.Split(*what, ",")
	known := append(phases(), ours, theirs)
	for _, word := range slices.Concat(o.programs, o.phases) {
		if !slices.Contains(known, word) {
			return o, fmt.Errorf("%q is none of %s", word, strings.Join(known, ", "))
		}
	}
	return o, nil
}

// measures reports whether a program is measured at a size.
func (o options) measures(program string, size large.Size) bool {
	return slices.Contains(o.programs, program) &&
		(program == ours || len(o.sizes) == 1 || size.Services <= o.theirs && size.Endpoints <= mostEndpoints)
}

// binding is how a program takes packets to Service addresses.
func (o options) binding(program string, size large.Size) string {
	if program == ours && size.Services >= o.routed {
		return string(config.RouteBinding)
	}
	return string(config.AddressBinding)
}

// failure is what ends a measurement: whatever goes wrong in one, there is no figure, and what comes after is not
// tried.
type failure struct{ error }

// check ends what attempt does if err is an error.
func check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// must is a value that there is unless err is an error, which ends what attempt does.
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
