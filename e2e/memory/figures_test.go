// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// published is the page with the figures. The flag update rewrites it.
const published = "../../docs/memory.md"

var update = flag.Bool("update", false, "write the figures into "+published)

// figure is a measured one.
type figure struct {
	name string // of the row in the page
	is   float64
	most float64 // more is a mistake, whatever the page says
}

// tolerance is how far a figure may exceed the page's.
const tolerance = 0.15

// row matches one of the page's rows: a name and a figure.
func row(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(name) + ` \| ([0-9.]+) \|`)
}

// check compares figures with the page, or writes them there.
func check(t *testing.T, all ...figure) {
	t.Helper()
	b, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, f := range all {
		t.Logf("%s: %.1f", f.name, f.is)
		if f.is > f.most {
			t.Errorf("%s: %.1f, want at most %.1f", f.name, f.is, f.most)
		}
		found := row(f.name).FindStringSubmatchIndex(page)
		if found == nil {
			t.Errorf("%s has no row %q", published, f.name)
			continue
		}
		if *update {
			page = page[:found[2]] + short(f.is) + page[found[3]:]
			continue
		}
		if says, _ := strconv.ParseFloat(page[found[2]:found[3]], 64); f.is > says*(1+tolerance)+1 {
			t.Errorf("%s: %.1f, %s says %s (-update writes it anew)", f.name, f.is, published, page[found[2]:found[3]])
		}
	}
	if *update {
		if err := os.WriteFile(published, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// short formats a number with three digits, or as many as there are before the point.
func short(f float64) string {
	text := fmt.Sprintf("%.1f", f)
	if f >= 100 {
		text = fmt.Sprintf("%.0f", f)
	}
	return strings.TrimSuffix(text, ".0")
}
