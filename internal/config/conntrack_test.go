// SPDX-License-Identifier: Apache-2.0

package config

import "testing"

func TestRoomForConnectionsGrowsWithTheProcessors(t *testing.T) {
	for name, c := range map[string]struct {
		conntrack Conntrack
		cores     int
		want      int
	}{
		"nothing chosen":                 {Conntrack{}, 4, 0},
		"the default, few processors":    {Default().Conntrack, 2, 131072},
		"the default, more":              {Default().Conntrack, 8, 262144},
		"the default, a great many":      {Default().Conntrack, 512, 1048576},
		"at the bound":                   {Conntrack{MaxPerCore: 32768}, 32, 1048576},
		"the least":                      {Conntrack{MaxPerCore: 1, Min: 123456}, 4, 123456},
		"the least counts with the rest": {Conntrack{Min: 123456}, 4, 0},
		"the least is not bounded":       {Conntrack{MaxPerCore: 1, Min: 2_000_000}, 4, 2_000_000},
		"but loses to the bound":         {Conntrack{MaxPerCore: 32768, Min: 2_000_000}, 64, 1048576},
		"the greatest number":            {Conntrack{MaxPerCore: 1<<31 - 1, Min: 1<<31 - 1}, 8192, 1048576},
	} {
		if got := c.conntrack.Max(c.cores); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
