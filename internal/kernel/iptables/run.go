// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// lockSeconds is how long a tool waits for the lock that all tools share.
	lockSeconds = "5"

	// runTimeout ends a tool that hangs. Tens of thousands of rules take iptables-nft many seconds.
	runTimeout = 60 * time.Second

	exitBusy = 4 // another program holds the lock, or a tool on nf_tables was refused a line
)

// toolError is a run that failed.
type toolError struct {
	tool string
	text string // what it wrote to stderr, in one line
	line int    // of its input; 0 if it did not say
	exit int
}

func (e *toolError) Error() string { return e.tool + ": " + e.text }

// busy reports whether the tool did nothing, as another program holds the lock.
func (e *toolError) busy() bool { return e.exit == exitBusy && e.line == 0 }

// Is reports fs.ErrNotExist for a missing chain or set: the tools have one exit status for everything.
func (e *toolError) Is(other error) bool {
	return other == fs.ErrNotExist && slices.ContainsFunc([]string{
		"Couldn't load target", "is not a chain", "doesn't exist.", "does not exist",
		"No chain/target/match by that name", "failed (No such file or directory)",
	}, func(words string) bool { return strings.Contains(e.text, words) })
}

// save reads all tables of a family that exist. It names none, as iptables-save -t makes the named one.
func (c *Conn) save(ctx context.Context, f state.Family) (snapshot, error) {
	t, ok := c.tools[f]
	if !ok {
		return nil, fmt.Errorf("%v is not among the opened families", f)
	}
	out, err := c.run(ctx, t.save, "")
	if err != nil {
		return nil, err
	}
	c.onNFT = c.onNFT || onNFTables(out)
	tables, err := parse(out)
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", filepath.Base(t.save), err)
	}
	return tables, nil
}

// restore commits one script.
func (c *Conn) restore(ctx context.Context, f state.Family, s script) error {
	_, err := c.run(ctx, c.tools[f].restore, s.text, "--noflush", "-w", lockSeconds)
	return err
}

// run runs a tool once.
func (c *Conn) run(ctx context.Context, path, input string, args ...string) (string, error) {
	c.forks++
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	tool := filepath.Base(path)
	if ctx.Err() != nil {
		return "", fmt.Errorf("running %s: %w", tool, ctx.Err())
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return "", fmt.Errorf("running %s: %w", tool, err)
	}
	return "", explain(tool, stderr.String(), exit.ExitCode())
}

// Takes reports whether the kernel and the tools of a family take a rule in table nat. It tries the rule, for a moment,
// in a chain of that name, which no packet meets and a process that is killed leaves behind.
func (c *Conn) Takes(ctx context.Context, f state.Family, chain, rule string) (bool, error) {
	text := fmt.Sprintf("*nat\n:%[1]s - [0:0]\n-A %[1]s %[2]s\nCOMMIT\n*nat\n-F %[1]s\n-X %[1]s\nCOMMIT\n", chain, rule)
	err := c.restore(ctx, f, script{text: text})
	refused, is := errors.AsType[*toolError](err)
	if is && !refused.busy() {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("trying %q: %w", rule, err)
	}
	return true, nil
}

var (
	versionBefore = regexp.MustCompile(`^ip6?tables(-\w+)* v[^:]*: `)
	lineNumber    = regexp.MustCompile(`\bline:? (\d+)`)
	onlyFailed    = regexp.MustCompile(`^ip6?tables(-\w+)*: line \d+ failed$`)
)

// explain makes one line of what a tool wrote, without its own name, version and usage.
func explain(tool, stderr string, exit int) *toolError {
	e := &toolError{tool: tool, exit: exit}
	var kept []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(versionBefore.ReplaceAllString(line, ""))
		if m := lineNumber.FindStringSubmatch(line); m != nil && e.line == 0 {
			e.line, _ = strconv.Atoi(m[1]) // 0 if it is too large
		}
		switch {
		case line == "", strings.HasPrefix(line, "Try `"), strings.HasPrefix(line, "Error occurred at line"):
		case onlyFailed.MatchString(line): // a legacy tool knows no more
			kept = append(kept, "the kernel refused the change (its log may say why)")
		default:
			kept = append(kept, line)
		}
	}
	e.text = strings.Join(kept, "; ")
	if e.text == "" {
		e.text = fmt.Sprintf("exit status %d", exit)
	}
	return e
}
