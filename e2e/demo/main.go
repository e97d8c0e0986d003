// SPDX-License-Identifier: Apache-2.0

// Command demo shows kube-ipvs at work on a small cluster in network namespaces, and fails if anything that it shows is
// wrong. It needs root and a kernel with IPVS: run it with make demo.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit is how long the whole demo may take.
const limit = 2 * time.Minute

// options are the demo's flags.
type options struct {
	daemon    string
	manifests string
	color     bool
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.daemon, "kube-ipvs", "bin/kube-ipvs", "the `program` to show")
	flags.StringVar(&o.manifests, "manifests", "manifests/demo", "the `folder` of the objects to serve")
	flags.BoolVar(&o.color, "color", false, "use colours, unless NO_COLOR is set")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the demo took longer than %v", limit))
	defer cancel()
	started := time.Now()
	page := page{w: os.Stdout, color: o.color && os.Getenv("NO_COLOR") == ""}
	if err := show(ctx, o, page); err != nil {
		page.failure(err)
		return 1
	}
	page.success(time.Since(started))
	return 0
}
