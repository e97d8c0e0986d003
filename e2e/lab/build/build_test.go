// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNewestOf(t *testing.T) {
	names := []string{"linux-source", "linux-source-6.1", "linux-source-6.12", "linux-source-7.9", "linux-source-7.10", "linux-source-7.x", "linux-source-71.2", "linux-7.11"}
	for series, want := range map[Series]string{"6.12": "linux-source-6.12", "6.1": "linux-source-6.1", "7": "linux-source-7.10", "8": ""} {
		if got, ok := series.newestOf(names); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", series, got, ok, want)
		}
	}
}

func TestVersions(t *testing.T) {
	table := "linux-source-7.2 | 7.2.13-1 | a unstable/main\nlinux-source-7.2 | 7.2.12-1~bpo13+1 | b\n  linux | 7.2.13-1 | linux-source-7.2\n"
	if got, want := versions(table, "linux-source-7.2"), []string{"7.2.13-1", "7.2.12-1~bpo13+1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMirrorIn(t *testing.T) {
	for targets, want := range map[string]string{
		"Debian Debian-Security a://security/\nDebian Debian a://debian/\nDebian Debian b://debian/\n": "a://debian/",
		"Ubuntu Ubuntu a://ubuntu/\n": "",
		"":                            "",
	} {
		if got, ok := mirrorIn(targets); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v", targets, got, ok)
		}
	}
}

func TestTheMirrorOfTheEnvironmentComesFirst(t *testing.T) {
	got, err := findMirror(func(string) string { return "a://mine/" }, runner{})
	if got != "a://mine/" || err != nil {
		t.Errorf("got %q, error %v", got, err)
	}
}

func TestFindReturnsTheLastBuiltOfThisConfiguration(t *testing.T) {
	s := Store(t.TempDir())
	_, err := s.Find("7")
	if err == nil || !strings.Contains(err.Error(), "lab --kernel 7 --install") {
		t.Errorf("error %v does not say what to do", err)
	}
	folders := []string{s.folder("7", "7.2.13-1"), s.folder("7", "7.10.1-1"), filepath.Join(string(s), "7_7.11.1-1_other"), s.folder("6.12", "6.12.1-1")}
	for i, folder := range folders {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(folder, at, at); err != nil {
			t.Fatal(err)
		}
	}
	k, err := s.Find("7")
	if err != nil || k.Program() != folders[1]+"/linux" || k.Modules("7.10.1") != folders[1]+"/lib/modules/7.10.1" {
		t.Errorf("got %+v, error %v", k, err)
	}
}

func TestEnviron(t *testing.T) {
	got := environ([]string{"PATH=/bin", "MAKEFLAGS=n", "ARCH=arm64", "LANG=de"})
	if got[0] != "PATH=/bin" || slices.Contains(got, "MAKEFLAGS=n") || slices.Contains(got, "ARCH=arm64") || slices.Contains(got, "LANG=de") {
		t.Errorf("got %q", got)
	}
}

func TestTheLogHasWhatProgramsPrint(t *testing.T) {
	var log strings.Builder
	r := runner{&log}
	out, err := r.output("sh", "-c", "echo out; echo err >&2")
	if out != "out\n" || err != nil || !strings.Contains(log.String(), "err\n") {
		t.Errorf("got %q, error %v, log %q", out, err, log.String())
	}
	err = r.logged(t.TempDir(), "sh", "-c", "echo reason; exit 3")
	if err == nil || !strings.Contains(err.Error(), "run sh: exit status 3") || !strings.Contains(log.String(), "reason\n") {
		t.Errorf("error %v, log %q", err, log.String())
	}
}
