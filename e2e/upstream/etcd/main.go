// SPDX-License-Identifier: Apache-2.0

// Package main is etcd, with a clock that is cheap in user-mode Linux.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"

	"github.com/kube-ipvs/kube-ipvs/e2e/upstream/counter"
)

func main() {
	if err := counter.Use(); err != nil {
		fmt.Fprintln(os.Stderr, "asking the kernel for the time:", err)
	}
	etcdmain.Main(os.Args)
}
