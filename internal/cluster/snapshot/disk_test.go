// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func TestAFileIsRefusedWhereverItIsCutOrFlipped(t *testing.T) {
	file := keep(t, time.Unix(0, 0), shop("web", "10.96.0.1", "web-1"))
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put := func(b []byte, at int) {
		t.Helper()
		if _, err := f.WriteAt(b, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, at int) {
		t.Helper()
		if _, c, err := read(file, "node-1", defaultMaxBytes); err == nil || len(c.services) != 0 {
			t.Errorf("%s %d: it was read as %v, %v", what, at, c, err)
		}
	}
	for n := range 8 * len(whole) {
		put([]byte{whole[n/8] ^ 1<<(n%8)}, n/8)
		refused("flipped bit", n)
		put(whole[n/8:n/8+1], n/8)
	}
	mustHold(t, file, "web 10.96.0.1 web-1")
	put([]byte{0}, len(whole))
	refused("a byte after", len(whole))
	for n := len(whole) - 1; n >= 0; n-- {
		if err := f.Truncate(int64(n)); err != nil {
			t.Fatal(err)
		}
		refused("cut at", n)
	}
}

func TestWhatIsNoFileOfOursSaysWhy(t *testing.T) {
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, name) }
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := keep(t, time.Unix(0, 0))
	b, err := os.ReadFile(newer)
	binary.BigEndian.PutUint32(b[16:], 7)
	if err := errors.Join(err, os.WriteFile(newer, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ file, want string }{
		{at("absent"), "no such file"},
		{at("absent/objects"), "no such file"},
		{folder, "no regular file"},
		{at("pipe"), "no regular file"},
		{newer, "it has format 7, this program reads 1"},
	} {
		_, err := Stat(test.file)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), test.file) != 1 {
			t.Errorf("%s: %v, want an error with the name once and %q", test.file, err, test.want)
		}
	}
}

func TestReadingIsBounded(t *testing.T) {
	file := keepAll(t, time.Unix(0, 0), town(100, 10).services)
	h, err := Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(file, "node-1", h.Plain-1); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("with a lower bound: %v", err)
	}
	if _, _, err := read(file, "node-1", h.Plain); err != nil {
		t.Errorf("with just that bound: %v", err)
	}
}

func TestTheHeaderCanBeReadAlone(t *testing.T) {
	written := time.Unix(1700000000, 123456789)
	file := keep(t, written, shop("db", "10.96.0.3"), shop("web", "10.96.0.1"))
	stat, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Stat(file)
	if err != nil || h.Node != "node-1" || !h.Written.Equal(written) || h.Services != 2 || h.size() != stat.Size() {
		t.Errorf("header is %+v, %v; the file has %d bytes", h, err, stat.Size())
	}
	if stat.Mode() != 0o600 {
		t.Errorf("others may read the file: %v", stat.Mode())
	}
	if n := binary.Size(layout{}); n != headerSize {
		t.Errorf("the header has %d bytes, want %d", n, headerSize)
	}
}

func TestWhatACrashLeftIsReplaced(t *testing.T) {
	file := keep(t, time.Unix(0, 0), shop("web", "10.96.0.1"))
	precious := filepath.Join(t.TempDir(), "precious")
	if err := errors.Join(os.WriteFile(precious, []byte("gold"), 0o600), os.Symlink(precious, file+".new")); err != nil {
		t.Fatal(err)
	}
	if _, err := write(file, Header{Node: "node-1"}, defaultMaxBytes, content{place("node-1"), packAll(shop("db", "10.96.0.3"))}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, file, "db 10.96.0.3")
	if b, err := os.ReadFile(precious); err != nil || string(b) != "gold" {
		t.Errorf("what a link led to has %q, %v", b, err)
	}
	if _, err := os.Lstat(file + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}

func TestAFailedWriteLeavesTheOldFileAndNothingElse(t *testing.T) {
	file := keep(t, time.Unix(0, 0), shop("web", "10.96.0.1"))
	for name, h := range map[string]Header{"too large": {Node: "node-1"}, "no name": {Node: strings.Repeat("n", 300)}} {
		limit := int64(defaultMaxBytes)
		if name == "too large" {
			limit = 5000
		}
		if _, err := write(file, h, limit, town(10, 10)); err == nil {
			t.Errorf("%s: it was written", name)
		}
		mustHold(t, file, "web 10.96.0.1")
		if all, err := os.ReadDir(filepath.Dir(file)); err != nil || len(all) != 1 {
			t.Errorf("%s: left %v, %v", name, all, err)
		}
	}
}

const writeForEver = "SNAPSHOT_WRITE_FOR_EVER"

// TestMain lets the test below start itself as a process that writes until it is killed.
func TestMain(m *testing.M) {
	file := os.Getenv(writeForEver)
	if file == "" {
		os.Exit(m.Run())
	}
	for n := 1; ; n++ {
		if _, err := write(file, Header{Node: "node-1"}, defaultMaxBytes, town(100+n%2*100, 10)); err != nil {
			panic(err)
		}
	}
}

func TestAKilledWriterLeavesAWholeFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "objects")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		writer := exec.Command(self)
		writer.Env = append(os.Environ(), writeForEver+"="+file)
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		testkit.Eventually(t, "there is a file", func() bool { _, err := os.Stat(file); return err == nil })
		moment := time.Duration(rand.IntN(40)) * time.Millisecond
		testkit.Eventually(t, "a moment passed", func() bool { return time.Since(began) > moment })
		if err := writer.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = writer.Wait() // it was killed
		h, c, err := read(file, "node-1", defaultMaxBytes)
		if err != nil || len(c.services) != h.Services || h.Services%100 != 0 || h.Services == 0 {
			t.Fatalf("after kill %d: %d Services, %v", i, len(c.services), err)
		}
	}
}
