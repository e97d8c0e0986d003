// SPDX-License-Identifier: Apache-2.0

package world_test

import (
	"net/netip"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
)

func TestAReplyIsReadAsItWasWritten(t *testing.T) {
	for text, want := range map[string]world.Reply{
		"pod-a 10.244.1.12:40112":       {Server: "pod-a", Client: netip.MustParseAddrPort("10.244.1.12:40112")},
		"pod-a 10.244.1.12:40112\n":     {Server: "pod-a", Client: netip.MustParseAddrPort("10.244.1.12:40112")},
		"node-2 [fd00:10:244:1::1]:999": {Server: "node-2", Client: netip.MustParseAddrPort("[fd00:10:244:1::1]:999")},
	} {
		got, err := world.ParseReply(text)
		if err != nil || got != want {
			t.Errorf("ParseReply(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "\n", "pod-a", " 10.0.0.1:1", "pod-a 10.0.0.1", "404 page not found", "pod-a 10.0.0.1:1\n\n"} {
		if got, err := world.ParseReply(text); err == nil {
			t.Errorf("ParseReply(%q) = %v, want an error", text, got)
		}
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add("pod-a 10.244.1.12:40112\n")
	f.Add("pod-a [fd00::1]:1")
	f.Fuzz(func(t *testing.T, text string) {
		reply, err := world.ParseReply(text)
		if err != nil {
			return
		}
		again, err := world.ParseReply(reply.String())
		if err != nil || again != reply {
			t.Errorf("ParseReply(%q) = %v, whose text reads as %v, %v", text, reply, again, err)
		}
	})
}
