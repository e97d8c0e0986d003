// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"testing"
)

// avoidedWords matches words that docs/style.md replaces by plain ones.
var avoidedWords = regexp.MustCompile(`(?i)\b(wish|wished|wishes|whoever|nobody|told|tells)\b`)

// avoidedWordsAllowed returns the files that may use avoided words, each with the reason.
func avoidedWordsAllowed() map[string]string {
	return map[string]string{
		"docs/style.md":                        "its table shows them beside the better words",
		"e2e/deploy/documents_test.go":         "it lists them, to find them in the documents",
		"internal/architecture/words_test.go":  "it lists them",
		"internal/architecture/checks_test.go": "it tests that they are found",
	}
}

func TestCodeAndDocumentsUsePlainWords(t *testing.T) {
	c := sources(t)
	unused := avoidedWordsAllowed()
	check := func(name string, text []byte) {
		found := unplain(name, text)
		if avoidedWordsAllowed()[name] == "" {
			report(t, found)
		} else if len(found) > 0 {
			delete(unused, name)
		}
	}
	for _, f := range c.files {
		check(f.name, f.text)
	}
	for name, text := range c.texts {
		if path.Ext(name) == ".md" {
			check(name, text)
		}
	}
	for name := range unused {
		t.Errorf("%s uses no avoided word any more: remove it from avoidedWordsAllowed", name)
	}
}

// unplain finds avoided words in a text.
func unplain(name string, text []byte) []problem {
	var found []problem
	for _, at := range avoidedWords.FindAllIndex(text, -1) {
		line := 1 + bytes.Count(text[:at[0]], []byte("\n"))
		what := fmt.Sprintf("%q: use a plain word, see docs/style.md", text[at[0]:at[1]])
		found = append(found, problem{fmt.Sprintf("%s:%d", name, line), what})
	}
	return found
}
