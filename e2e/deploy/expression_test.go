// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	quotedText = regexp.MustCompile(`"(\\.|[^"\\])*"|'(\\.|[^'\\])*'`)
	selectors  = regexp.MustCompile(`\{[^}]*\}|\[[^]]*\]`)
	labelLists = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	words      = regexp.MustCompile(`[$\w:]+\s*\(?`)
	aName      = regexp.MustCompile(`^[a-zA-Z_:][\w:]*$`)
)

// metricsIn returns the names of the metrics in a Prometheus expression: all words that are no function, label, number
// or operator.
func metricsIn(expression string) []string {
	for _, part := range []*regexp.Regexp{quotedText, selectors, labelLists} {
		expression = part.ReplaceAllString(expression, " ")
	}
	var names []string
	for _, word := range words.FindAllString(expression, -1) {
		if word = strings.TrimSpace(word); aName.MatchString(word) {
			names = append(names, word)
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		return slices.Contains([]string{"and", "or", "unless", "bool", "offset", "Inf", "NaN"}, name)
	})
}

func TestMetricsAreFoundInExpressions(t *testing.T) {
	for expression, want := range map[string][]string{
		`up == 0`:                     {"up"},
		`a_b{c="d_e{}", f=~"g"} > 30`: {"a_b"},
		`sum by (node, table) (rate(a_total[5m])) > 0`:                 {"a_total"},
		`sum(rate(a_total[$__rate_interval])) by(x)`:                   {"a_total"},
		`histogram_quantile(0.99, sum by (le) (rate(a_bucket[10m])))`:  {"a_bucket"},
		`time() - a_seconds > 5e3 and on (instance) b unless c`:        {"a_seconds", "b", "c"},
		`a / on (x) group_left (y) b offset 5m`:                        {"a", "b"},
		`count(max_over_time(a:b:c[1h:5m]) > bool 1) or vector(0) + a`: {"a", "a:b:c"},
		`absent ("text with a_metric" == x)`:                           {"x"},
	} {
		if got := metricsIn(expression); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", expression, got, want)
		}
	}
}
