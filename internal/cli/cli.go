// SPDX-License-Identifier: Apache-2.0

// Package cli is the commands of kube-ipvs. Each reads its flags, gets what it
// needs from Env, lets other packages compute, and writes. What a command says
// about the kernel comes from the code that the daemon runs.
//
// No command touches anything but Env and the files that it is told to read or
// write, so all of them run in tests; package live below has the real kernel.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// Env is all that the commands may touch.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// OpenKernel opens the kernel for reading. Its error wraps
	// errors.ErrUnsupported if the kernel has no IPVS, and fs.ErrPermission if
	// we may not use it.
	OpenKernel func() (Kernel, error)

	// ReadNode reads all tables of the kernel, and the node's own addresses, but
	// for those on the dummy device. A table that can't be read is nil and named
	// in the error. Errors wrap what OpenKernel's do.
	ReadNode func(ctx context.Context) (state.State, []netip.Addr, error)

	// ReadRules reads all rules of this node, whoever made them.
	ReadRules func(ctx context.Context) (state.Ruleset, error)

	// Barriers finds the rules and policies of others that stop packets to Services.
	Barriers func(ctx context.Context) ([]trace.Barrier, error)

	// Run is the daemon. It returns when ctx ends.
	Run func(ctx context.Context, d Daemon) error

	// Cleanup removes what the daemon made. What it did is told also if it failed.
	Cleanup func(ctx context.Context, c Cleanup) (Cleaned, error)

	// Running tells whether the daemon runs in this network namespace.
	Running func() bool

	// Stored reads what is known of the objects in a daemon's snapshot. Its error
	// wraps fs.ErrNotExist if there is no such file.
	Stored func(file string) (Stored, error)

	// Build is how this program was built; nil if it does not know.
	Build *debug.BuildInfo
}

// The exit statuses of Execute.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// Execute runs the command that args name and returns the exit status. It has
// written all there is to say.
func Execute(ctx context.Context, env Env, args []string) int {
	root := newRoot(env)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, syscall.EPIPE): // whoever reads our output has seen enough
		return ExitOK
	case errors.As(err, &usage):
		say(env, "kube-ipvs: %v", err)
		say(env, "See '%s --help'.", command.CommandPath())
		return ExitUsage
	}
	say(env, "kube-ipvs: %v", err)
	return ExitFailed
}

// commands are the commands, in the order of the help text. Nouns and dump
// only read; what changes something is a verb.
func commands(env Env) []*cobra.Command {
	return []*cobra.Command{
		newRun(env),
		newDump(env),
		newPlan(env),
		newTrace(env),
		newCleanup(env),
		newVersion(env),
	}
}

func newRoot(env Env) *cobra.Command {
	var version asked
	root := &cobra.Command{
		Use:   "kube-ipvs",
		Short: "Kubernetes Services over IPVS",
		Long: `kube-ipvs brings Kubernetes Services to a node with the kernel's IPVS, in the
place of kube-proxy.

Exit status: 0 if all went well, 1 if something failed, 2 if the command line
makes no sense.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			if version {
				return printVersion(env)
			}
			return c.Help()
		},
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	version.add(root.Flags())
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(commands(env)...)
	return root
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// noArgs is for commands that have flags only.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// say writes a line for the person at the terminal. That nobody can read it is
// no reason to fail.
func say(env Env, format string, args ...any) {
	_, _ = fmt.Fprintf(env.Stderr, format+"\n", args...)
}
