// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustHold(t *testing.T, file string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{somewhere}, want...), kept(t, file)); diff != "" {
		t.Errorf("the file (-want +got):\n%s", diff)
	}
}

func TestTheFileHoldsWhatLiveToldLast(t *testing.T) {
	file := filepath.Join(t.TempDir(), "of", "its", "own", "objects")
	synctest.Test(t, func(t *testing.T) {
		h := start(t, file)
		h.say("place node-1", "web 10.96.0.1 web-1", "db 10.96.0.3", "old 10.96.0.4", "old gone", "complete")
		h.wait(10*time.Second - 1)
		if _, err := Stat(file); err == nil {
			t.Error("there is a file before changes were collected")
		}
		h.wait(1)
		mustHold(t, file, "db 10.96.0.3", "web 10.96.0.1 web-1")

		h.say("web 10.96.0.1 web-2", "db gone", "place node-1")
		h.wait(10 * time.Second)
		mustHold(t, file, "web 10.96.0.1 web-2")

		h.say("new 10.96.0.5")
		h.end(t)
		mustHold(t, file, "new 10.96.0.5", "web 10.96.0.1 web-2")
	})
}

func TestWhatWasRestoredIsNotWrittenUnlessLiveTellsIt(t *testing.T) {
	file := keep(t, time.Unix(0, 0), shop("db", "10.96.0.3"), shop("web", "10.96.0.1"))
	synctest.Test(t, func(t *testing.T) {
		h := start(t, file)
		h.wait(time.Minute)
		h.say("place node-1", "web 10.96.0.2", "complete")
		h.end(t)
		mustHold(t, file, "web 10.96.0.2")
	})
}

// A refreshed file would look younger than its objects, which were not confirmed.
func TestAFileIsLeftAloneWhileNothingChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "objects")
	synctest.Test(t, func(t *testing.T) {
		h := start(t, file)
		h.say("web 10.96.0.1", "complete")
		h.wait(10 * time.Second)
		before := h.Status().Written
		h.wait(24 * time.Hour)
		h.end(t)
		if header, err := Stat(file); err != nil || !header.Written.Equal(before) {
			t.Errorf("the file is of %v, want %v (%v)", header.Written, before, err)
		}
	})
}

func TestChangesAreCollected(t *testing.T) {
	file := filepath.Join(t.TempDir(), "objects")
	synctest.Test(t, func(t *testing.T) {
		h := start(t, file, func(s *Source) { s.Pause = 7 * time.Second })
		h.say("complete")
		began := time.Now()
		var writes []time.Duration
		last := h.Status().Written
		for i := range 30 {
			h.say(fmt.Sprint("web 10.96.0.", i))
			h.wait(time.Second)
			if w := h.Status().Written; !w.Equal(last) {
				writes, last = append(writes, w.Sub(began)), w
			}
		}
		h.end(t)
		want := []time.Duration{7 * time.Second, 14 * time.Second, 21 * time.Second, 28 * time.Second}
		if diff := cmp.Diff(want, writes); diff != "" {
			t.Errorf("writes after (-want +got):\n%s", diff)
		}
	})
}

func TestRestGrowsWithWhatAWriteCosts(t *testing.T) {
	for name, test := range map[string]struct {
		took time.Duration
		size int64
		err  error
		want time.Duration
	}{
		"a quick write":      {20 * time.Millisecond, 1000, nil, 10 * time.Second},
		"a slow disk":        {2 * time.Second, 1000, nil, 40 * time.Second},
		"a large file":       {200 * time.Millisecond, 3 << 20, nil, time.Minute},
		"a very large file":  {6 * time.Second, 100 << 20, nil, 2 * time.Minute},
		"an error":           {time.Millisecond, 0, errTooLarge, time.Minute},
		"an error at length": {4 * time.Second, 0, errTooLarge, 80 * time.Second},
	} {
		if got := rest(10*time.Second, test.took, test.size, test.err); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestWhatIsTooLargeIsNotWrittenAndTheOldFileStays(t *testing.T) {
	before := time.Unix(1000, 0)
	file := keep(t, before, shop("web", "10.96.0.1"))
	synctest.Test(t, func(t *testing.T) {
		h := start(t, file, func(s *Source) { s.MaxBytes = 2000 })
		h.say("place node-1", "complete")
		for i := range 50 {
			h.say(fmt.Sprintf("web-%d 10.96.0.1", i))
		}
		for i := range 50 {
			h.say(fmt.Sprintf("web-%d 10.96.0.2", i))
			h.wait(time.Minute)
		}
		s := h.Status()
		if !errors.Is(s.Err, errTooLarge) || !s.Written.Equal(before) || s.From != Live {
			t.Errorf("status is %+v", s)
		}
		mustHold(t, file, "web 10.96.0.1")
		if n := h.logs.FilterMessageSnippet("cannot write snapshot").Len(); n != 1 {
			t.Errorf("it was logged %d times, want once", n)
		}
		for i := range 50 {
			h.say(fmt.Sprintf("web-%d gone", i))
		}
		h.wait(time.Minute)
		if s := h.Status(); s.Err != nil || h.logs.FilterMessageSnippet("written again").Len() != 1 {
			t.Errorf("status is %+v, the log %v", s, h.logs.All())
		}
		mustHold(t, file)
		h.end(t)
	})
}

func TestAWriteThatFailsIsTriedAgain(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "folder")
	file := filepath.Join(folder, "objects")
	if err := os.WriteFile(folder, nil, 0o600); err != nil { // in the folder's place
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := start(t, file)
		h.say("place node-1", "web 10.96.0.1", "complete")
		h.wait(10 * time.Minute)
		if s := h.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), "not a directory") {
			t.Errorf("status is %+v", s)
		}
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		h.wait(largeRest)
		if s := h.Status(); s.Err != nil {
			t.Errorf("status is %+v", s)
		}
		mustHold(t, file, "web 10.96.0.1")
		h.end(t)
	})
}

// Reports do not wait for a disk: nothing is locked while the file is written.
func TestWhatIsToldDuringAWriteIsInTheNextOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "objects")
	r := newRelay(&diary{}, func() {})
	for _, line := range []string{"place node-1", "web 10.96.0.1", "complete"} {
		says(line)(r)
	}
	first, version := r.current(0)
	says("web gone")(r)
	says("db 10.96.0.3")(r)
	if _, err := write(file, Header{Node: "node-1"}, defaultMaxBytes, first); err != nil {
		t.Fatal(err)
	}
	mustHold(t, file, "web 10.96.0.1")
	second, later := r.current(version)
	if later == version {
		t.Fatal("what was reported during the write is not to be written")
	}
	if _, err := write(file, Header{Node: "node-1"}, defaultMaxBytes, second); err != nil {
		t.Fatal(err)
	}
	mustHold(t, file, "db 10.96.0.3")
}
