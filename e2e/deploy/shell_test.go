// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// A comment, what ends a command, a redirection, or a word with quotes in it.
	shellToken = regexp.MustCompile(`^\s*(?:(#.*)|(&&|\|\||[|;])|(\d?>>?|<)|((?:'[^']*'|"[^"]*"|[^\s'"|&;<>()` + "`" + `])+))`)
	assignment = regexp.MustCompile(`^[A-Za-z_]\w*=`)
	shellQuote = regexp.MustCompile(`'([^']*)'|"([^"]*)"`)
)

// shellCommands returns the commands of a line: words without quotes, and without redirections and variables before
// them. It refuses what it cannot read: the documents have no loops and no substitution of commands.
func shellCommands(line string) ([][]string, error) {
	var all [][]string
	var words []string
	redirected := false
	for rest := line; strings.TrimSpace(rest) != ""; {
		m := shellToken.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("%q is more shell than this test reads", rest)
		}
		rest = rest[len(m[0]):]
		switch {
		case m[1] != "":
			rest = ""
		case m[2] != "":
			all, words = append(all, words), nil
		case m[3] != "":
			redirected = true
		case redirected:
			redirected = false
		case len(words) > 0 || !assignment.MatchString(m[4]):
			words = append(words, shellQuote.ReplaceAllString(m[4], "$1$2"))
		}
	}
	all = append(all, words)
	return slices.DeleteFunc(all, func(words []string) bool { return len(words) == 0 }), nil
}

func TestShellCommandsAreReadAsAShellDoes(t *testing.T) {
	for line, want := range map[string][][]string{
		"":                                 {},
		"  # prints ipvs":                  {},
		"a -b 'c d' \"e|f\"g  # h":         {{"a", "-b", "c d", "e|fg"}},
		"A=1 B='2 3' c D=4 >x 2>>y <z":     {{"c", "D=4"}},
		"a | b && c; d || e":               {{"a"}, {"b"}, {"c"}, {"d"}, {"e"}},
		`curl -s http://h/p | grep '^a|b'`: {{"curl", "-s", "http://h/p"}, {"grep", "^a|b"}},
	} {
		got, err := shellCommands(line)
		if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%s: %q, %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{"a 'b", "a $(b)", "a & b", "for a in b; do (c); done"} {
		if got, err := shellCommands(line); err == nil {
			t.Errorf("%s: read as %q", line, got)
		}
	}
}
