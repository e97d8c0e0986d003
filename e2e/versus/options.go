// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// The things that are measured of a program.
const (
	phaseCold    = "cold start"
	phaseSteady  = "steady state"
	phaseChanges = "changes"
	phaseLoad    = "load"
	phaseStored  = "stored load"
	phaseRestart = "restart"
	phaseFloor   = "floor" // of the rows, whoever makes them
)

func phases() []string {
	return []string{phaseCold, phaseSteady, phaseChanges, phaseLoad, phaseStored, phaseRestart, phaseFloor}
}

// options are what is measured, and how often.
type options struct {
	sizes    []large.Size
	programs []string
	phases   []string
	routed   int // from how many Services on ours makes routes in place of addresses
	theirs   int // up to how many Services kube-proxy is measured beside ours
	starts   int
	times    int
	budget   time.Duration
	rate     float64
	load     time.Duration
	steady   time.Duration
	limit    time.Duration // of one start, or one change
	whole    time.Duration
	folder   string
	path     string
	profiles bool
}

// defaultSizes are measured if nothing else is said, in this order: to what differs in the number of Services alone, objects
// need only be added.
const defaultSizes = "100x10,1000x10,5000x10,10000x10,100x1000,40000x2"

// The largest cluster that kube-proxy is measured in beside ours, if nothing else is said.
const mostServices, mostEndpoints = 10000, 10

// tooMany addresses are not to be given to a device one by one.
const tooMany = 20000

func parseOptions(arguments []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("versus run", flag.ContinueOnError)
	sizes := flags.String("sizes", defaultSizes, "Services x endpoints, a `list`")
	programs := flags.String("proxies", report.Ours+","+report.Theirs, "which to measure, a `list`")
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
	flags.StringVar(&o.folder, "out", "docs/benchmarks", "the `folder` for the results")
	flags.StringVar(&o.path, "kube-ipvs", "bin/kube-ipvs", "the `program` to measure")
	flags.BoolVar(&o.profiles, "profiles", false, "keep CPU profiles of kube-ipvs in the folder too, which costs it time")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	for _, text := range strings.Split(*sizes, ",") {
		size, err := large.ParseSize(text)
		if err != nil {
			return o, err
		}
		o.sizes = append(o.sizes, size)
	}
	var err error
	if o.programs, err = choose(*programs, []string{report.Ours, report.Theirs}); err != nil {
		return o, err
	}
	o.phases, err = choose(*what, phases())
	return o, err
}

// choose reads a list of words that are known.
func choose(text string, known []string) ([]string, error) {
	var list []string
	for _, word := range strings.Split(text, ",") {
		if !slices.Contains(known, word) {
			return nil, fmt.Errorf("%q is none of %s", word, strings.Join(known, ", "))
		}
		list = append(list, word)
	}
	return list, nil
}

func (o options) wants(phase string) bool { return slices.Contains(o.phases, phase) }

// measures reports whether a program is measured at a size.
func (o options) measures(program string, size large.Size) bool {
	if !slices.Contains(o.programs, program) {
		return false
	}
	return program == report.Ours || len(o.sizes) == 1 || size.Services <= o.theirs && size.Endpoints <= mostEndpoints
}

// binding is how a program takes packets to Service addresses.
func (o options) binding(p program, size large.Size) string {
	if p.name == report.Ours && size.Services >= o.routed {
		return string(config.RouteBinding)
	}
	return string(config.AddressBinding)
}
