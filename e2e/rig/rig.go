// SPDX-License-Identifier: Apache-2.0

// Package rig is a small cluster for tests whose node-1 runs the real kube-ipvs. Manifests go into a folder. The
// daemon's own pure functions return what the kernel should hold, and the rig's own adapters read what it does hold.
//
// Clients and servers are in package world.
package rig

import (
	"cmp"
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// binaryEnv names the program to test. Building it in user-mode Linux would take minutes.
	binaryEnv = "KUBE_IPVS"
	// nodeName is the node with kube-ipvs.
	nodeName = "node-1"
	// Patience is how long a slow kernel may take for what has no time limit of its own.
	Patience = time.Minute
)

// Rig is a world with a folder of manifests and the kernel of one node.
type Rig struct {
	World *world.World
	// Node is the node with kube-ipvs.
	Node *world.Host
	// Folder is what kube-ipvs watches.
	Folder string

	config  config.Config
	binary  string
	logs    string
	kernel  *linux.Kernel
	foreign state.State
	started int // how many daemons
}

// New builds the small world without starting kube-ipvs. The options are those that kube-ipvs is started with.
func New(t *testing.T, options ...func(*config.Config)) *Rig {
	t.Helper()
	w, err := world.New(world.Small())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	c := config.Default()
	for _, option := range options {
		option(&c)
	}
	return On(t, w, nodeName, c)
}

// On returns a rig of a node of an existing world. A reboot of the node ends it.
func On(t *testing.T, w *world.World, node string, c config.Config) *Rig {
	t.Helper()
	r := &Rig{Folder: EmptyFolder(t), logs: t.TempDir(), binary: binary(t), config: onThisKernel(t, c), World: w, Node: w.Host(node)}
	if err := r.Node.Do(func() error { return r.open(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.kernel.Close(); err != nil {
			t.Error(err)
		}
	})
	r.Keep(t)
	return r
}

// Expect changes the configuration by which Desired computes rows. The caller changes that of kube-ipvs.
func (r *Rig) Expect(options ...func(*config.Config)) {
	for _, option := range options {
		option(&r.config)
	}
}

// EmptyFolder returns a folder in memory, until the test ends. User-mode Linux forgets the inodes of the host's files,
// and with them their watches, as soon as they are closed.
func EmptyFolder(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "kube-ipvs-rig-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv(binaryEnv)
	if path == "" {
		t.Fatalf("%s does not name the kube-ipvs to test: run this with make test-lab, or with make kernel-test PKG=./e2e/...", binaryEnv)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("there is no kube-ipvs to test, make it with make build: %v", err)
	}
	return path
}

// onThisKernel returns c with what kube-ipvs detects by itself.
func onThisKernel(t *testing.T, c config.Config) config.Config {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.Kernel, err = config.ParseKernel(unix.ByteSliceToString(name.Release[:])); err != nil {
		t.Fatal(err)
	}
	c.FirewallChoice = config.FirewallChoice(cmp.Or(os.Getenv(FirewallVariable), string(config.IPTablesFirewall)))
	if c.FirewallChoice == config.NFTablesFirewall {
		c.Firewall = state.OnNFTables
	}
	return c
}

// UseFirewall makes a firewall the one that the node should have. Daemons that start from now on take it.
func (r *Rig) UseFirewall(w state.Firewall) {
	r.config.Firewall, r.config.FirewallChoice = w, config.FirewallChoice(w.String())
}

// FirewallVariable is the environment variable that names the firewall with which kube-ipvs runs: iptables, unless it
// says nftables.
const FirewallVariable = "KUBE_IPVS_FIREWALL"

// open opens the kernel so that everything counts as ours: its lists must be complete.
func (r *Rig) open(ctx context.Context) (err error) {
	r.kernel, err = linux.Open(ctx, Everything(r.config))
	return err
}

// Everything counts all that a kernel holds as ours.
func Everything(c config.Config) linux.Ours {
	ours := linux.Ours{
		Firewall: c.Firewall, Both: true,
		Set:      func(state.SetName) bool { return true },
		Chain:    func(string) bool { return true },
		Families: c.Families,
	}
	for _, row := range plan.Base(c).Sysctls {
		ours.Sysctls = append(ours.Sysctls, row.Key)
	}
	return ours
}

// Until waits for a condition, whose error says what is missing, and returns how long it took. It sleeps most of the
// time: there may be only one processor.
func Until(t testing.TB, limit time.Duration, holds func() error) time.Duration {
	t.Helper()
	const shortest, longest, share = 10 * time.Millisecond, time.Second, 4
	started := time.Now()
	for {
		looked := time.Now()
		err := holds()
		waited := time.Since(started)
		if err == nil {
			return waited
		}
		if waited > limit {
			t.Fatalf("after %v: %v", waited.Round(time.Millisecond), err)
		}
		time.Sleep(min(max(shortest, share*time.Since(looked)), longest))
	}
}
