// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages returns the documents, by their paths from the root of the repository.
func pages(t *testing.T) []string {
	t.Helper()
	all := []string{"README.md", chartPage}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		for _, name := range found {
			all = append(all, strings.TrimPrefix(name, root+"/"))
		}
	}
	return all
}

// span is a piece of inline code.
type span struct {
	page, text string
}

var (
	fences     = regexp.MustCompile("(?ms)^```.*?^```$")
	inlineCode = regexp.MustCompile("`([^`]+)`")
)

// prose returns a page without its fenced blocks.
func prose(t *testing.T, page string) string {
	t.Helper()
	return fences.ReplaceAllString(string(read(t, filepath.Join(root, page))), "")
}

// spans returns all inline code. The rules of style show what not to write, so they are left out.
func spans(t *testing.T) []span {
	t.Helper()
	var all []span
	for _, page := range pages(t) {
		if page == stylePage {
			continue
		}
		for _, m := range inlineCode.FindAllStringSubmatch(prose(t, page), -1) {
			all = append(all, span{page, strings.Join(strings.Fields(m[1]), " ")})
		}
	}
	return all
}

func TestDocumentsNameOnlyFilesThatAreThere(t *testing.T) {
	for _, page := range pages(t) {
		text := string(read(t, filepath.Join(root, page)))
		for _, m := range regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(text, -1) {
			file := filepath.Join(root, page)
			if m[1] != "" {
				file = filepath.Join(root, filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if m[2] != "" && !anchors(t, file)[m[2]] {
				t.Errorf("%s: %s has no heading %s", page, file, m[2])
			}
		}
		for _, name := range regexp.MustCompile(`\b(?:overlays|components)/[a-z-]+(?:/[a-z.-]+)?`).FindAllString(text, -1) {
			if _, err := os.Stat(filepath.Join(manifests, name)); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

const (
	stylePage  = "docs/style.md"
	parityPage = "docs/parity.md"
	columns    = 120

	// chartPage is beside the chart, where Helm shows it.
	chartPage = "manifests/chart/kube-ipvs/README.md"

	// benchmarksPage is written by e2e/benchmark.
	benchmarksPage = "docs/benchmarks/README.md"
)

func TestDocumentsKeepTheRulesOfStyle(t *testing.T) {
	beforeCell := regexp.MustCompile(`^\| [^|]* \|`) // of the pairs before and after
	avoided := regexp.MustCompile(`(?i)\b(wish|wished|wishes|whoever|nobody|told|tells)\b`)
	for _, page := range pages(t) {
		for i, line := range strings.Split(prose(t, page), "\n") {
			if page == stylePage {
				line = beforeCell.ReplaceAllString(line, "|")
			}
			if word := avoided.FindString(inlineCode.ReplaceAllString(line, "")); word != "" {
				t.Errorf("%s: the word %q: %s gives a better one: %s", page, word, stylePage, line)
			}
			if n := len([]rune(line)); n > columns && page != benchmarksPage && !strings.HasPrefix(line, "|") {
				t.Errorf("%s: line %d outside blocks has %d columns, more than %d: %s", page, i+1, n, columns, line)
			}
		}
	}
}
