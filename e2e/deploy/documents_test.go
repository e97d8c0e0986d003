// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func pages() []string { return []string{"migrate.md", "operations.md"} }

// commands are the commands in a page's blocks, a line each.
func commands(t *testing.T, page string) []string {
	t.Helper()
	var all []string
	for _, block := range regexp.MustCompile("(?ms)^```[a-z ]*\n(.*?)^```").FindAllStringSubmatch(string(read(t, root+"/docs/"+page)), -1) {
		for line := range strings.Lines(block[1]) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				all = append(all, line)
			}
		}
	}
	return all
}

func TestCommandsInDocumentsAreUnderstood(t *testing.T) {
	reached := errors.New("reached")
	var stderr bytes.Buffer
	env := cli.Env{
		Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &stderr,
		OpenKernel: func() (cli.Kernel, error) { return nil, reached },
		ReadNode:   func(context.Context) (state.State, []netip.Addr, error) { return state.State{}, nil, reached },
		Run:        func(context.Context, cli.Daemon) error { return nil },
		Cleanup:    func(context.Context, cli.Cleanup) (cli.Cleaned, error) { return cli.Cleaned{}, nil },
		Running:    func() bool { return false },
	}
	for _, page := range pages() {
		found := 0
		for _, line := range commands(t, page) {
			line = strings.NewReplacer("SOURCE", "10.244.1.10", "ADDRESS:PORT", "10.96.0.80:80").Replace(line)
			m := regexp.MustCompile(`(?:^|[|] |-- )kube-ipvs ([^|>#]*)`).FindStringSubmatch(line)
			if m == nil {
				continue
			}
			found++
			stderr.Reset()
			if cli.Execute(t.Context(), env, strings.Fields(m[1])) == cli.ExitUsage {
				t.Errorf("docs/%s: %s: %s", page, line, stderr.String())
			}
		}
		if found == 0 {
			t.Errorf("docs/%s has no command of ours", page)
		}
	}
}

func TestDocumentsNameOnlyFilesThatAreThere(t *testing.T) {
	for _, page := range pages() {
		text := string(read(t, root+"/docs/"+page))
		for _, m := range regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(text, -1) {
			file := filepath.Join(root, "docs", page)
			if m[1] != "" {
				file = filepath.Join(root, "docs", m[1])
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("docs/%s: %v", page, err)
			} else if m[2] != "" && !anchors(t, file)[m[2]] {
				t.Errorf("docs/%s: %s has no heading %s", page, file, m[2])
			}
		}
		for _, name := range regexp.MustCompile(`\b(?:overlays|components)/[a-z-]+(?:/[a-z.-]+)?`).FindAllString(text, -1) {
			if _, err := os.Stat(filepath.Join(manifests, name)); err != nil {
				t.Errorf("docs/%s: %v", page, err)
			}
		}
	}
}
