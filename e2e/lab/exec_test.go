// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The module that go test runs in the lab.
const (
	moduleFile = "module example.org/tested\n\ngo 1.24\n"

	testedFile = `package tested

func Covered() int { return 1 }

func Missed() int { return 2 }
`
	testFile = `package tested

import (
	"os"
	"testing"
)

func TestInside(t *testing.T) {
	if Covered() != 1 {
		t.Fail()
	}
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		t.Error(err)
	}
	// The working directory is the package's folder.
	if err := os.WriteFile("testdata/golden", []byte("written"), 0o644); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(t.TempDir()+"/x", nil, 0o600); err != nil {
		t.Error(err)
	}
}

func TestFails(t *testing.T) { t.Error("on purpose") }
`
)

func TestGoTestExec(t *testing.T) {
	b := newBench(t)
	module := filepath.Join(b.temp, "module")
	if err := os.MkdirAll(filepath.Join(module, "testdata"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"go.mod": moduleFile, "tested.go": testedFile, "tested_test.go": testFile} {
		if err := os.WriteFile(filepath.Join(module, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-v", "-coverprofile=cover.out", "-exec", b.lab, "./...")
	cmd.Dir, cmd.Env = module, append(b.env, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("the failure of a test is lost")
	}
	wantLines(t, string(out), "--- PASS: TestInside", "--- FAIL: TestFails", "    tested_test.go:24: on purpose", "FAIL")
	if got, err := os.ReadFile(filepath.Join(module, "testdata", "golden")); string(got) != "written" {
		t.Errorf("the golden file has %q, error %v", got, err)
	}
	profile, err := os.ReadFile(filepath.Join(module, "cover.out"))
	if err != nil || !strings.Contains(string(profile), "tested.go:3.20,3.32 1 1") {
		t.Errorf("the coverage is %q, error %v", profile, err)
	}
}
