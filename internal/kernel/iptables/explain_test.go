// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"strings"
	"testing"
)

func FuzzExplain(f *testing.F) {
	f.Add("iptables-restore v1.8.9 (legacy): Couldn't load target `X':No such file or directory\n\nError occurred at line: 3\n")
	f.Add("iptables-restore: line 7 failed\n")
	f.Add("Another app is currently holding the xtables lock. line 99999999999999999999\n")
	f.Fuzz(func(t *testing.T, stderr string) {
		e := explain("iptables-restore", stderr, 1)
		if e.text == "" || e.line < 0 || strings.Contains(e.text, "\n") {
			t.Errorf("%q is explained as %q, line %d", stderr, e.text, e.line)
		}
	})
}
