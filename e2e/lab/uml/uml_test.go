// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
)

func TestArguments(t *testing.T) {
	k := Kernel{Program: "/bin/linux", Arguments: []string{"seccomp=on", "ncpus=2"}}
	want := []string{
		"mem=512M", "rootfstype=hostfs", "rootflags=/", "rw",
		"init=/tmp/lab-1/init", "LAB_JOB=/tmp/lab-1",
		"con=null", "con0=null,fd:1",
		"ssl=null", "ssl0=null,fd:3", "ssl1=null,fd:4", "ssl2=fd:5,null",
		"uml_dir=/tmp/lab-1", "umid=uml", "quiet", "initcall_blacklist=raid6_select_algo",
		"seccomp=on", "ncpus=2",
	}
	if got := arguments(k, "/tmp/lab-1", "512M"); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestParseMemory(t *testing.T) {
	for text, want := range map[string]uint64{
		"1K": 1 << 10, "64M": 64 << 20, "2G": 2 << 30, "3g": 3 << 30,
		"": 0, "2": 0, "G": 0, "0M": 0, "-1G": 0, "1.5G": 0, "2GB": 0, "2 G": 0, "9999999999G": 0,
	} {
		got, err := parseMemory(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %d, error %v; want %d", text, got, err, want)
		}
	}
}

func TestChooseFolder(t *testing.T) {
	const need = 2 << 30
	small := folder{"/small", need - 1, true}
	noexec := folder{"/noexec", need, false}
	good := folder{"/good", need, true}
	for _, c := range []struct {
		name    string
		folders []folder
		want    string
		says    []string
	}{
		{"the first that fits", []folder{good, {"/other", need, true}}, "/good", nil},
		{"not one that is too small or noexec", []folder{small, noexec, good}, "/good", nil},
		{"none", []folder{small, noexec}, "", []string{"/small (2047 MiB free)", "/noexec (mounted noexec)", "LAB_MEM"}},
	} {
		got, err := chooseFolder(c.folders, need)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q, error %v; want %q", c.name, got, err, c.want)
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: error %v does not say %q", c.name, err, s)
			}
		}
	}
}

func TestJobFolder(t *testing.T) {
	for temp, want := range map[string]string{
		"/tmp": "/tmp", "/var/tmp/x-1.y": "/var/tmp/x-1.y",
		"/with space": "/tmp", `/with"quote`: "/tmp", "/with,comma": "/tmp",
		"/dev/shm": "/tmp", "/dev": "/tmp", "/devel": "/devel", "relative": "/tmp",
	} {
		if got := jobFolder(temp); got != want {
			t.Errorf("%q: got %q, want %q", temp, got, want)
		}
	}
}

func TestKeep(t *testing.T) {
	c := job.Command{Argv: []string{"/run/build/x.test"}, Dir: "/src"}
	want := []string{"/tmp/lab-1", "/tmp", "/src", "/run/build"}
	if got := keep("/tmp/lab-1", "/tmp", c); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	c.Argv[0] = "sh"
	if got := keep("/tmp/lab-1", "/tmp", c); !slices.Equal(got, want[:3]) {
		t.Errorf("a program from PATH: got %q, want %q", got, want[:3])
	}
}

func TestCause(t *testing.T) {
	const log = "one\n[    1.0] Kernel panic - not syncing: test\nCall Trace:\n"
	for _, c := range []struct {
		name, log, failure string
		err                error
		want               string
	}{
		{"panic", log, "", nil, "the guest's kernel died before the command ended: Kernel panic - not syncing: test"},
		{"the lab inside failed", log, "mount x", nil, "prepare the guest: mount x"},
		{"stopped", log, "", errors.New("stopped by us"), "stopped by us"},
		{"silent", "one\n", "", nil, "the guest's kernel ended before the command did; the host may lack memory for it (LAB_MEM)"},
	} {
		if got := cause(c.log, c.failure, c.err); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		text string
		want string
	}{
		{"", "  "},
		{"a\n", "  a"},
		{"a\nb\nc\n", "  b\n  c"},
	} {
		if got := lastLines(c.text, 2); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

// script writes a program that stands in for a kernel.
func script(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "linux")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho 9.9\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestFind(t *testing.T) {
	program, modules := script(t), t.TempDir()
	env := map[string]string{EnvKernel: program, EnvArguments: " a=1  b "}
	getenv := func(name string) string { return env[name] }
	k, err := Find(getenv)
	if err != nil {
		t.Fatal(err)
	}
	if k.Program != program || k.Version != "9.9" || k.Modules != "" || !slices.Equal(k.Arguments, []string{"a=1", "b"}) {
		t.Errorf("got %+v", k)
	}
	env[EnvModules] = modules
	if _, err := Find(getenv); err == nil || !strings.Contains(err.Error(), "modules of "+program+" are missing") {
		t.Errorf("an empty module folder: error %v", err)
	}
	if err := os.WriteFile(filepath.Join(modules, "modules.dep"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if k, err := Find(getenv); err != nil || k.Modules != modules {
		t.Errorf("got %+v, error %v", k, err)
	}
}

func TestBuiltKernelsHaveTheirModulesInOneFolder(t *testing.T) {
	program, root := script(t), t.TempDir()
	modules := func(version string) string { return filepath.Join(root, version) }
	getenv := func(name string) string { return map[string]string{EnvArguments: "seccomp=off"}[name] }
	if _, err := Built(program, modules, getenv); err == nil || !strings.Contains(err.Error(), "modules of "+program+" are missing") {
		t.Errorf("no folder of its version: error %v", err)
	}
	if err := os.MkdirAll(modules("9.9"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(modules("9.9"), "modules.dep"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := Built(program, modules, getenv)
	if err != nil || k.Modules != modules("9.9") || k.Packaged {
		t.Errorf("got %+v, error %v", k, err)
	}
	// The last argument wins.
	if n := len(k.Arguments); n < 2 || k.Arguments[n-1] != "seccomp=off" {
		t.Errorf("got arguments %q", k.Arguments)
	}
}

func TestFindSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Find(func(string) string { return "" })
	if err == nil || !strings.Contains(err.Error(), "apt-get install user-mode-linux") {
		t.Errorf("error %v does not say what to install", err)
	}
}

func FuzzParseMemory(f *testing.F) {
	for _, s := range []string{"512M", "2g", "1K", "4294967295G"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseMemory(s); err == nil && (n == 0 || n%1024 != 0) {
			t.Errorf("%q is %d bytes", s, n)
		}
	})
}
