// SPDX-License-Identifier: Apache-2.0

// Package main is kube-apiserver, with a clock that is cheap in user-mode Linux.
package main

import (
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"github.com/kube-ipvs/kube-ipvs/e2e/upstream/counter"
)

func main() {
	if err := counter.Use(); err != nil {
		fmt.Fprintln(os.Stderr, "asking the kernel for the time:", err)
	}
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
