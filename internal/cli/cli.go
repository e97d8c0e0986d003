// SPDX-License-Identifier: Apache-2.0

// Package cli is the commands of kube-ipvs. Each parses its flags, calls what Env and other packages provide, and
// prints. Commands touch nothing but Env and the files that are named on the command line, so all of them run in tests.
// Package app implements Env on the real kernel.
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

// Env is everything that commands may touch.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// OpenKernel opens the kernel for dump. Its error wraps errors.ErrUnsupported or fs.ErrPermission.
	OpenKernel func() (Kernel, error)
	// ReadNode reads all tables, and the node's own addresses without those on the dummy device. A table that cannot be
	// read is nil and named in the error, which wraps the same as OpenKernel's.
	ReadNode func(ctx context.Context) (state.State, []netip.Addr, error)
	// ReadRules reads all rules of this node, those of other programs too.
	ReadRules func(ctx context.Context) (state.Ruleset, error)
	// Barriers returns the rules and policies of other programs that stop packets to Services.
	Barriers func(ctx context.Context) ([]trace.Barrier, error)
	// Run runs the daemon until ctx ends.
	Run func(ctx context.Context, d Daemon) error
	// Cleanup removes the daemon's rows. It returns what it did even if it failed.
	Cleanup func(ctx context.Context, c Cleanup) (Cleaned, error)
	// Running reports whether the daemon runs in this network namespace.
	Running func() bool
	// LoadModules loads the kernel's IPVS unless it is there. Its error wraps errors.ErrUnsupported.
	LoadModules func() error
	// Stored describes a daemon's snapshot. Its error wraps fs.ErrNotExist if there is none.
	Stored func(file string) (Stored, error)
	// Build is how this program was built; nil if unknown.
	Build *debug.BuildInfo
}

// Exit statuses.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// Execute runs the command that args name, prints its errors and returns the exit status.
func Execute(ctx context.Context, env Env, args []string) int {
	root := newRoot(env)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, syscall.EPIPE): // the reader of our output has closed it
		return ExitOK
	case errors.As(err, &usage):
		say(env, "kube-ipvs: %v", err)
		say(env, "See '%s --help'.", command.CommandPath())
		return ExitUsage
	}
	say(env, "kube-ipvs: %v", err)
	return ExitFailed
}

// commands returns the commands, in the order of the help text.
func commands(env Env) []*cobra.Command {
	return []*cobra.Command{newRun(env), newDump(env), newPlan(env), newTrace(env), newCleanup(env), newVersion(env), newPause(), newLoadModules(env)}
}

func newRoot(env Env) *cobra.Command {
	var version versionFlag
	root := &cobra.Command{
		Use:   "kube-ipvs",
		Short: "Kubernetes Services over IPVS",
		Long: `kube-ipvs serves Kubernetes Services on a node with the kernel's IPVS, in place of
kube-proxy.

Exit status: 0 for success, 1 for a failure, 2 for an invalid command line.`,
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

// usageError is an invalid command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// noArgs refuses arguments.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// say prints a line to standard error. A closed standard error is no failure.
func say(env Env, format string, args ...any) {
	_, _ = fmt.Fprintf(env.Stderr, format+"\n", args...)
}

// sayAll prints each element of a list on a line.
func sayAll[T any](env Env, list []T) {
	for _, v := range list {
		say(env, "%v", v)
	}
}
