// SPDX-License-Identifier: Apache-2.0

// Command benchmark measures kube-ipvs and the real kube-proxy side by side, against the same real API server with the same
// objects, and beside them the least that the same rows can cost. A program that did not do what it was timed for gets no
// figure. It needs root and a kernel with IPVS: run it with make bench.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const usage = `usage: benchmark run [FLAG...]      measure, and write results, a table and charts
       benchmark render [FOLDER]   write the table and charts of earlier results anew

benchmark run --help lists the flags. UPSTREAM names the folder of etcd, kube-apiserver and kube-proxy.
`

const (
	statusFailed = 1
	statusUsage  = 2
)

func main() { os.Exit(run(os.Args[1:])) }

func run(arguments []string) int {
	verb, rest := append(arguments, "")[0], arguments[min(1, len(arguments)):]
	var err error
	switch verb {
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
	b := newBench(o, "benchmark run "+strings.Join(arguments, " "))
	return errors.Join(attempt(func() { b.run(ctx) }), b.close(), b.verdict())
}
