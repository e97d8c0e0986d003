// SPDX-License-Identifier: Apache-2.0

// Command kube-ipvs brings Kubernetes Services to a node with the kernel's IPVS. This is only the wiring;
// package cli has the commands.
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
	// A reader such as head may leave early. Then writing to it fails, which cli takes for the end; the
	// signal would be a failure.
	signal.Ignore(syscall.SIGPIPE)
	build, _ := debug.ReadBuildInfo()
	return cli.Execute(ctx, cli.Env{
		Stdin:      os.Stdin,
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
		OpenKernel: openKernel,
		ReadNode:   app.ReadNode,
		ReadRules:  app.ReadRules,
		Barriers:   app.Barriers,
		Run:        app.Run,
		Cleanup:    app.Cleanup,
		Running:    app.Running,
		Stored:     app.Stored,
		Build:      build,
	}, os.Args[1:])
}

func openKernel() (cli.Kernel, error) {
	k, err := app.Open()
	if err != nil {
		return nil, err
	}
	return k, nil
}
