// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

func TestConntrackSettingsAreWrittenOnlyIfTheyAreChosen(t *testing.T) {
	for name, c := range map[string]struct {
		chosen config.Conntrack
		want   map[string]string
	}{
		"nothing": {config.Conntrack{}, map[string]string{}},
		"the default": {config.Default().Conntrack, map[string]string{
			"tcp_timeout_established": "86400",
			"tcp_timeout_close_wait":  "3600",
		}},
		"all": {
			config.Conntrack{
				TCPEstablished: 2 * time.Hour, TCPCloseWait: time.Minute, TCPBeLiberal: true,
				UDP: 30 * time.Second, UDPStream: 90 * time.Second,
			},
			map[string]string{
				"tcp_timeout_established": "7200",
				"tcp_timeout_close_wait":  "60",
				"tcp_be_liberal":          "1",
				"udp_timeout":             "30",
				"udp_timeout_stream":      "90",
			},
		},
		"less than a second is not chosen":                 {config.Conntrack{UDP: 999 * time.Millisecond}, map[string]string{}},
		"the room for connections is not of the namespace": {config.Conntrack{MaxPerCore: 32768, Min: 131072}, map[string]string{}},
	} {
		base := config.Default()
		base.Conntrack = c.chosen
		got := map[string]string{}
		for _, row := range plan.Base(base).Sysctls {
			if setting, ok := strings.CutPrefix(string(row.Key), "net/netfilter/nf_conntrack_"); ok {
				got[setting] = row.Value
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
