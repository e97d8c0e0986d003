// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMissing(t *testing.T) {
	wanted := parseSettings("# a comment\nCONFIG_A=y\nCONFIG_B=12\nCONFIG_C=y\nCONFIG_D=y\n")
	got := parseSettings("CONFIG_A=y\nCONFIG_B=8\n# CONFIG_C is not set\nCONFIG_E=y\n")
	if missing := wanted.missing(got); !slices.Equal(missing, []string{"B", "C", "D"}) {
		t.Errorf("got %q", missing)
	}
}

// tree writes the files of a kernel's sources.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestCheckNamesDroppedSymbolsOnly(t *testing.T) {
	without := strings.ReplaceAll(wantedText, "CONFIG_IP_VS=y\n", "")
	root := tree(t, map[string]string{
		"net/Kconfig":      "menuconfig IP_VS\n\ttristate \"IP virtual server\"\nconfig INET\n\tbool\n",
		"net/deep/Kconfig": "config OTHER\n", "net/notes": "config IP_SET\n",
		"whole": wantedText, "without": without, "old": strings.ReplaceAll(wantedText, "CONFIG_IP_SET=y\n", ""),
	})
	if err := check(root, filepath.Join(root, "whole")); err != nil {
		t.Error(err)
	}
	if err := check(root, filepath.Join(root, "old")); err != nil {
		t.Errorf("a kernel that does not know IP_SET: %v", err)
	}
	if err := check(root, filepath.Join(root, "without")); err == nil || !strings.HasSuffix(err.Error(), "is off: IP_VS") {
		t.Errorf("got error %v", err)
	}
}

// Sorted lines would hide why a symbol is there, but each must be there once, and be on.
func TestTheConfigurationNamesEachSymbolOnce(t *testing.T) {
	if n := strings.Count("\n"+wantedText, "\nCONFIG_"); n != len(parseSettings(wantedText)) || n < 100 {
		t.Errorf("%d lines set %d symbols", n, len(parseSettings(wantedText)))
	}
	for name, line := range parseSettings(wantedText) {
		if strings.HasSuffix(line, "=m") || strings.HasSuffix(line, "=n") {
			t.Errorf("%s is not built in", name)
		}
	}
}

func TestNothingThatIsWantedIsLeftOut(t *testing.T) {
	for _, needed := range []string{"net", "kernel", "mm", "include", "scripts", "arch/um", "arch/x86", "lib", "drivers/net", "drivers/tty", "fs/hostfs"} {
		for _, folder := range left() {
			if folder == needed || strings.HasPrefix(folder, needed+"/") && needed != "drivers/net" {
				t.Errorf("%s is left out", folder)
			}
		}
	}
}
