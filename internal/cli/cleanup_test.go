// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestCleanupIsAskedAndSaysWhatItDid(t *testing.T) {
	done := Cleaned{
		Changes: []Change{
			{"removed", "virtual servers", "TCP 10.96.0.1:443"}, {"removed", "virtual servers", "UDP 10.96.0.10:53"},
			{"changed", "sets", "KUBE-CLUSTER-IP"}, {"removed", "sets", "KUBE-NO-LOCAL"},
		},
		Left: []string{"sysctls stay as they are"},
	}
	failed := errors.New("removing set KUBE-NO-LOCAL: it is in use")
	for _, c := range []struct {
		line   string
		done   Cleaned
		err    error
		asked  Cleanup
		status int
		stdout string
		stderr string
	}{
		{"cleanup", done, nil, Cleanup{}, ExitOK,
			"removed  virtual servers  2\nchanged  sets             1\nremoved  sets             1\n", "sysctls stay as they are\n"},
		{"cleanup -v", done, nil, Cleanup{}, ExitOK,
			"removed  virtual servers  TCP 10.96.0.1:443\nremoved  virtual servers  UDP 10.96.0.10:53\n" +
				"changed  sets             KUBE-CLUSTER-IP\nremoved  sets             KUBE-NO-LOCAL\n", "sysctls stay as they are\n"},
		{"cleanup --for-kube-proxy", Cleaned{}, nil, Cleanup{ForKubeProxy: true}, ExitOK, "nothing to do\n", ""},
		{"cleanup --ipvs-exclude-cidrs 10.0.0.1/8,fd00::/8 --drain-timeout 10m", Cleaned{}, nil,
			Cleanup{Exclude: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, DrainTimeout: 10 * time.Minute},
			ExitOK, "nothing to do\n", ""},
		{"cleanup", Cleaned{Changes: done.Changes[:1]}, failed, Cleanup{}, ExitFailed,
			"removed  virtual servers  1\n", "kube-ipvs: removing set KUBE-NO-LOCAL: it is in use\n"},
	} {
		t.Run(c.line, func(t *testing.T) {
			w := newWorld()
			var asked Cleanup
			w.env.Cleanup = func(_ context.Context, in Cleanup) (Cleaned, error) {
				asked = in
				return c.done, c.err
			}
			status, stdout, stderr := w.run(t, c.line)
			if status != c.status || stdout != c.stdout || stderr != c.stderr {
				t.Errorf("status %d, stdout\n%sstderr\n%swant %d,\n%s%s", status, stdout, stderr, c.status, c.stdout, c.stderr)
			}
			if diff := cmp.Diff(c.asked, asked, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCleanupRefusesWhatMakesNoSense(t *testing.T) {
	for _, line := range []string{"cleanup now", "cleanup --drain-timeout -1s", "cleanup --ipvs-exclude-cidrs 10.0.0.1"} {
		w := newWorld()
		w.env.Cleanup = func(context.Context, Cleanup) (Cleaned, error) {
			t.Errorf("%s: something was cleaned", line)
			return Cleaned{}, nil
		}
		if status, _, stderr := w.run(t, line); status != ExitUsage || stderr == "" {
			t.Errorf("%s: status %d, stderr %q", line, status, stderr)
		}
	}
}
