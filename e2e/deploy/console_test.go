// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"flag"
	"io"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

var update = flag.Bool("update", false, "write the outputs in the documents anew")

// demoFolder has the objects of make demo; docs show what node-1 makes of them.
const demoFolder = root + "/manifests/demo"

// filled is the kernel of node-1 of the demo, once kube-ipvs has written all. It has no connections.
type filled struct{ rows state.State }

func (k filled) State(context.Context) (state.State, error) { return k.rows, nil }

func (filled) Observe(context.Context, bool) (render.Observed, error) {
	return render.Observed{Title: "IP Virtual Server version 1.2.1 (size=4096)"}, nil
}

func (filled) Close() error { return nil }

// offline is what commands may touch: no machine, but a node like the demo's.
func offline(t *testing.T, stdin string, out io.Writer) cli.Env {
	return cli.Env{
		Stdin: strings.NewReader(stdin), Stdout: out, Stderr: out,
		OpenKernel: func() (cli.Kernel, error) { return filled{rowsOfTheDemo(t)}, nil },
		ReadNode: func(context.Context) (state.State, []netip.Addr, error) {
			return rowsOfTheDemo(t), []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")}, nil
		},
		ReadRules: func(context.Context) (state.Ruleset, error) { return state.Ruleset{}, nil },
		Barriers:  func(context.Context) ([]trace.Barrier, error) { return nil, nil },
		Run:       func(context.Context, cli.Daemon) error { return nil },
		Cleanup:   func(context.Context, cli.Cleanup) (cli.Cleaned, error) { return cli.Cleaned{}, nil },
		Running:   func() bool { return true },
		Stored:    func(string) (cli.Stored, error) { return cli.Stored{}, fs.ErrNotExist },
	}
}

// rowsOfTheDemo returns what node-1 has in its kernel, whose firewall is nftables.
func rowsOfTheDemo(t *testing.T) state.State {
	t.Helper()
	var out bytes.Buffer
	args := []string{"plan", "-f", demoFolder, "--node", "node-1", "--cluster-cidr", "10.244.0.0/16,fd00:10:244::/56", "--firewall", "nftables"}
	if status := cli.Execute(t.Context(), cli.Env{Stdout: &out, Stderr: &out}, args); status != cli.ExitOK {
		t.Fatalf("%v: %s", args, out.String())
	}
	rows, err := render.ParseState(&out)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// objectsOfTheDemo returns its manifests in one text.
func objectsOfTheDemo(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(demoFolder + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, name := range files {
		texts = append(texts, string(read(t, name)))
	}
	return strings.Join(texts, "---\n")
}

// fromHere returns arguments with the manifests' paths from the root of the repository as this test reaches them.
func fromHere(args []string) []string {
	var all []string
	for _, a := range args {
		if strings.HasPrefix(a, "manifests/") {
			a = filepath.Join(root, a)
		}
		all = append(all, a)
	}
	return all
}

// checkConsole runs the commands of a block, which stand behind "$ ", and compares what they print with the block. Only
// commands of ours can be shown with their output, as if run in the root of the repository.
func (b block) checkConsole(t *testing.T) {
	t.Helper()
	var got []string
	for _, line := range b.lines {
		if command, isCommand := strings.CutPrefix(line, "$ "); isCommand {
			got = append(append(got, line), b.printed(t, command)...)
		}
	}
	if slices.Equal(got, b.lines) {
		return
	}
	if !*update {
		t.Errorf("%v shows\n%s\nbut the program prints (-update writes it anew)\n%s", b, b.text(), strings.Join(got, "\n"))
		return
	}
	file := filepath.Join(root, b.page)
	fence := "```console\n"
	write(t, file, strings.Replace(string(read(t, file)), fence+b.text(), fence+strings.Join(got, "\n")+"\n", 1))
}

// printed returns the lines that a pipeline of our commands prints, without blanks at their ends.
func (b block) printed(t *testing.T, line string) []string {
	t.Helper()
	commands, err := shellCommands(line)
	if err != nil {
		t.Fatalf("%v: %v", b, err)
	}
	input := ""
	for _, words := range commands {
		if words[0] != "kube-ipvs" {
			t.Fatalf("%v: %s is not ours, and has no output that this test knows", b, words[0])
		}
		var out bytes.Buffer
		if status := cli.Execute(t.Context(), offline(t, input, &out), fromHere(words[1:])); status != cli.ExitOK {
			t.Errorf("%v: %s: status %d", b, line, status)
		}
		input = out.String()
	}
	var lines []string
	for line := range strings.Lines(input) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return lines
}
