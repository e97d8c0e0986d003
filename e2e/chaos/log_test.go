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

// A library runs modprobe, which an image need not have, and complains if it can't: by its own way to log, on standard error.
func TestWhatALibrarySaysIsALineOfTheOneLog(t *testing.T) {
	r := rig.New(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "modprobe"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	without := []string{"env", "PATH=" + folder + ":" + os.Getenv("PATH")}
	d := r.StartAs(t, append(without, r.Argv()...)...)
	d.AwaitStart(t)
	var said []rig.Line
	for _, line := range d.Lines(t) { // each has to be one
		if strings.Contains(line.Message, "modprobe") {
			said = append(said, line)
		}
	}
	if len(said) != 1 || said[0].Level != "warn" || said[0].Fields["logger"] != "logrus" {
		t.Errorf("of modprobe the log says %+v", said)
	}
	output, err := r.Node.Run(t.Context(), append(without, r.Command("trace", "node", vip(state.IPv4, 10).String()+":80")...)...)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(output, "Z\twarn\tRunning modprobe") || strings.Contains(output, "level=warning") {
		t.Errorf("trace writes\n%s", output)
	}
}
