// SPDX-License-Identifier: Apache-2.0

// Command versus measures kube-ipvs and the real kube-proxy side by side, against the same real API server with the same
// objects, and beside them the least that the same rows can cost. Of a program that did not do what it was timed for, it
// reports no figure. It needs root and a kernel with IPVS: run it with make bench.
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
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
)

const usage = `usage: versus run [FLAG...]      measure, and write results, a table and plots
       versus render [FOLDER]   write the table and plots of earlier results anew

versus run --help lists the flags. UPSTREAM names the folder of etcd, kube-apiserver and kube-proxy.
`

const (
	statusFailed = 1
	statusUsage  = 2
)

func main() { os.Exit(run(os.Args[1:])) }

func run(arguments []string) int {
	verb := ""
	if len(arguments) > 0 {
		verb, arguments = arguments[0], arguments[1:]
	}
	var err error
	switch verb {
	case "run":
		err = measure(arguments)
	case "render":
		folder := strings.Join(arguments, " ")
		if folder == "" {
			folder = "docs/benchmarks"
		}
		err = render(folder)
	default:
		fmt.Fprint(os.Stderr, usage)
		return statusUsage
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "versus:", err)
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
	b := &bench{options: o, began: time.Now()}
	b.report = report.Report{Began: b.began, Commands: []string{"versus run " + strings.Join(arguments, " ")}}
	return errors.Join(b.run(ctx), b.verdict())
}

// render writes what people read of the results in a folder.
func render(folder string) error {
	r, err := report.Read(folder)
	if err != nil {
		return err
	}
	return r.Render(folder)
}
