// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// A library that runs modprobe, which an image need not have, may complain on standard error if it fails. None does any
// more, and all their messages are lines of the one log.
func TestNoLibrarySpeaksPastTheLog(t *testing.T) {
	r := rig.New(t)
	folder := t.TempDir()
	asked := filepath.Join(folder, "asked")
	script := "#!/bin/sh\necho \"$@\" >> " + asked + "\nexit 1\n"
	if err := os.WriteFile(filepath.Join(folder, "modprobe"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	without := []string{"env", "PATH=" + folder + ":" + os.Getenv("PATH")}
	d := r.StartAs(t, append(without, r.Argv()...)...)
	d.AwaitStart(t)
	for _, line := range d.Lines(t) { // each has to be one
		if strings.Contains(line.Message, "modprobe") {
			t.Errorf("the log says %+v", line)
		}
	}
	output, err := r.Node.Run(t.Context(), append(without, r.Command("trace", "node", vip(state.IPv4, 10).String()+":80")...)...)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(output, "modprobe") || strings.Contains(output, "level=warning") {
		t.Errorf("trace writes\n%s", output)
	}
	if arguments, err := os.ReadFile(asked); strings.Contains(string(arguments), "ip_vs\n") {
		t.Errorf("modprobe was asked for IPVS, which is there: %q, %v", arguments, err)
	}
}
