// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
)

// block is a fenced block of a page.
type block struct {
	page, language string
	reader         string // the word after the language: who reads it
	line           int    // of the fence that opens it
	lines          []string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

func (b block) text() string { return strings.Join(b.lines, "\n") + "\n" }

// blocksIn returns the fenced blocks of a text.
func blocksIn(page, text string) []block {
	var all []block
	var open *block
	for i, line := range strings.Split(text, "\n") {
		info, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			language, reader, _ := strings.Cut(info, " ") // "sh node" is a block of sh
			open = &block{page: page, language: language, reader: reader, line: i + 1}
		case isFence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.lines = append(open.lines, line)
		}
	}
	return all
}

func blocks(t *testing.T) []block {
	t.Helper()
	var all []block
	for _, page := range pages(t) {
		all = append(all, blocksIn(page, string(read(t, filepath.Join(root, page))))...)
	}
	return all
}

// free returns the blocks that nothing can run, by page and first line, and why.
func free() map[string]string {
	return map[string]string{
		"README.md: API server, snapshot on disk, YAML files    node: links, addresses    config file, flags": "a drawing",
	}
}

// Every block of the documents runs, is parsed by what reads it, or is in the list above.
func TestEveryBlockOfTheDocumentsIsHeldToSomethingThatRuns(t *testing.T) {
	unused := free()
	for _, b := range blocks(t) {
		if b.page == benchmarksPage {
			continue // e2e/benchmark writes the page with the commands that it ran
		}
		key := b.page + ": " + strings.TrimSpace(b.lines[0])
		if _, isFree := unused[key]; isFree {
			delete(unused, key)
			continue
		}
		switch b.language {
		case "sh":
			b.checkShell(t)
		case "console":
			b.checkConsole(t)
		case "yaml":
			b.checkYAML(t)
		default:
			t.Errorf("%v: nothing holds a block of language %q to the program", b, b.language)
		}
	}
	for key := range unused {
		t.Errorf("%s: there is no such block", key)
	}
}

// checkShell holds each command of a block to the program that it starts. What a command "# prints" is compared by
// e2e/cluster, which follows one page.
func (b block) checkShell(t *testing.T) {
	t.Helper()
	for _, line := range b.lines {
		if err := checkLine(t, line); err != nil {
			t.Errorf("%v: %s: %v", b, line, err)
		}
		if b.page != "docs/migrate.md" && strings.HasPrefix(line, "# prints ") {
			t.Errorf("%v: nothing compares what a command prints: make it a block of console", b)
		}
	}
}

// checkYAML holds a block to its reader, or to that of its kind: the daemon's for configuration, a strict one for
// objects. A Service must also mean something on a node, without a note.
func (b block) checkYAML(t *testing.T) {
	t.Helper()
	if b.reader != "" {
		check := readers()[b.reader]
		if check == nil {
			t.Errorf("%v: nothing reads YAML for %s", b, b.reader)
			return
		}
		check(t, b)
		return
	}
	if strings.Contains(b.text(), "Configuration\n") {
		b.checkConfiguration(t)
		return
	}
	for _, o := range decoded(t, b.String(), []byte(b.text())) {
		if _, isService := o.typed.(*corev1.Service); !isService {
			continue
		}
		var out, notes bytes.Buffer
		env := offline(t, b.text(), &out)
		env.Stderr = &notes
		args := []string{"plan", "-f", "-", "--node", "node-1", "--node-addresses", "192.0.2.1", "-o", "ipvsadm"}
		status := cli.Execute(t.Context(), env, args)
		if status != cli.ExitOK || notes.Len() > 0 || !strings.Contains(out.String(), "-A ") {
			t.Errorf("%v: a Service is not planned as it is: status %d\n%s%s", b, status, out.String(), notes.String())
		}
	}
}

func (b block) checkConfiguration(t *testing.T) {
	t.Helper()
	file, flag := filepath.Join(t.TempDir(), "config.yaml"), "--settings"
	if strings.Contains(b.text(), "kind: KubeProxyConfiguration\n") {
		flag = "--config"
	}
	write(t, file, b.text())
	var out bytes.Buffer
	if status := cli.Execute(t.Context(), offline(t, "", &out), []string{"run", flag, file, "--hostname-override", "node-1"}); status != cli.ExitOK {
		t.Errorf("%v: status %d: %s", b, status, out.String())
	}
}

// Inline code that is a command or a flag is held to the same programs.
func TestCommandsAndFlagsInProseAreUnderstood(t *testing.T) {
	for _, s := range spans(t) {
		tool, rest, hasArguments := strings.Cut(s.text, " ")
		flag, _, _ := strings.Cut(s.text, "=")
		switch {
		case checkers()[tool] != nil && hasArguments && !strings.HasSuffix(rest, "..."):
			if tool == "kube-ipvs" && !strings.Contains(rest, " ") {
				s.text += " --help" // a command without its arguments is a name
			}
			if err := checkLine(t, s.text); err != nil {
				t.Errorf("%s: %s: %v", s.page, s.text, err)
			}
		case strings.HasPrefix(flag, "--") && !flagsOfOthers()[flag]:
			flag, _, _ = strings.Cut(flag, " ")
			if !hasFlag(t, flag) {
				t.Errorf("%s: no command of kube-ipvs has %s", s.page, flag)
			}
		}
	}
}

// flagsOfOthers returns the flags in prose that are kubeadm's and k3s'.
func flagsOfOthers() map[string]bool {
	return map[string]bool{"--skip-phases": true, "--disable-kube-proxy": true}
}

// hasFlag reports whether a command of kube-ipvs knows a flag.
func hasFlag(t *testing.T, flag string) bool {
	t.Helper()
	for _, command := range []string{"run", "dump", "plan", "trace", "cleanup", "version"} {
		var out bytes.Buffer
		cli.Execute(t.Context(), offline(t, "", &out), []string{command, flag, "--help"})
		if !strings.Contains(out.String(), "unknown flag") {
			return true
		}
	}
	return false
}

func TestBlocksAreFoundWithTheirLanguage(t *testing.T) {
	all := blocksIn("a.md", "# A\n```sh node\nls\n```\ntext\n```\nb\nc\n```\n```yaml\n```\n")
	if len(all) != 3 || all[0].language != "sh" || all[0].reader != "node" || all[0].text() != "ls\n" || all[1].language != "" || len(all[1].lines) != 2 || all[2].String() != "a.md:10" {
		t.Errorf("%+v", all)
	}
}
