// SPDX-License-Identifier: Apache-2.0

// Command kube-ipvs serves Kubernetes Services on a node with IPVS. Package cli has its commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/cli"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // if the reader exits early, writing fails, which cli takes for the end
	build, _ := debug.ReadBuildInfo()
	return cli.Execute(ctx, cli.Env{
		Stdin:       os.Stdin,
		Stdout:      os.Stdout,
		Stderr:      os.Stderr,
		OpenKernel:  app.Open,
		ReadNode:    app.ReadNode,
		ReadRules:   app.ReadRules,
		Barriers:    app.Barriers,
		Run:         app.Run,
		Cleanup:     app.Cleanup,
		Running:     app.Running,
		LoadModules: app.LoadModules,
		Stored:      app.Stored,
		Build:       build,
	}, os.Args[1:])
}
