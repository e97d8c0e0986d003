// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"strings"
	"testing"
)

func TestProcessorsAreCounted(t *testing.T) {
	for list, want := range map[string]int{
		"0": 1, "0-1": 2, "0-3,8": 5, "0,2,4-7": 6, "0-65535": 65536,
		"": 0, "x": 0, "0-": 0, "-1": 0, "3-1": 0, "0,": 0, "0-99999999": 0, "0-65535,0": 0,
	} {
		if n, err := countCores(list); n != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v, want %d", list, n, err, want)
		}
	}
	if n := Cores(); n < 1 {
		t.Errorf("this machine has %d", n)
	}
}

func FuzzCountCores(f *testing.F) {
	f.Add("0-3,8")
	f.Add("0")
	f.Fuzz(func(t *testing.T, list string) {
		n, err := countCores(list)
		if err == nil && (n < 1 || n > maxCores || n < 1+strings.Count(list, ",")) {
			t.Errorf("%q are %d", list, n)
		}
	})
}
