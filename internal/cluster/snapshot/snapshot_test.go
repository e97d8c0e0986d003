// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// house is a Source at work, in a bubble of time of its own.
type house struct {
	*Source
	live  script
	sink  *diary
	logs  *observer.ObservedLogs
	stop  context.CancelFunc
	ended chan error
}

func start(t *testing.T, file string, settings ...func(*Source)) *house {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	core, logs := observer.New(zap.InfoLevel)
	h := &house{live: newScript(), sink: &diary{}, logs: logs, stop: stop, ended: make(chan error, 1)}
	h.Source = &Source{Live: h.live, File: file, Node: "node-1", Log: zap.New(core)}
	for _, set := range settings {
		set(h.Source)
	}
	go func() { h.ended <- h.Run(ctx, h.sink) }()
	t.Cleanup(stop)
	synctest.Wait()
	return h
}

func (h *house) say(lines ...string) {
	for _, line := range lines {
		h.live.calls <- says(line)
	}
	synctest.Wait()
}

// wait lets the bubble's clock go on.
func (h *house) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (h *house) end(t *testing.T) {
	t.Helper()
	h.stop()
	if err := <-h.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

// keep writes a snapshot as an earlier run would have left it.
func keep(t *testing.T, written time.Time, services ...objects) string {
	t.Helper()
	return keepAll(t, written, packAll(services...))
}

func keepAll(t *testing.T, written time.Time, services []*cluster.Objects) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "objects")
	if _, err := write(file, Header{Node: "node-1", Written: written}, defaultMaxBytes, content{place("node-1"), services}); err != nil {
		t.Fatal(err)
	}
	return file
}

// kept is what a file has, in the words of a diary.
func kept(t *testing.T, file string) []string {
	t.Helper()
	_, c, err := read(file, "node-1", defaultMaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	d := &diary{}
	newRelay(d, func() {}).restore(t.Context(), c, func() {})
	return d.lines[:len(d.lines)-1]
}

func TestTheFileIsUsedWhileLiveIsAwayAndLiveWins(t *testing.T) {
	type step struct {
		wait time.Duration
		say  []string
		want []string
	}
	for name, steps := range map[string][]step{
		"Live is quick": {
			{time.Second, []string{somewhere, "web 10.96.0.1", "complete"}, []string{somewhere, "web 10.96.0.1", "complete"}},
			{time.Hour, []string{"web gone"}, []string{"web gone"}},
		},
		"Live is away, then reports less": {
			{2 * time.Second, nil, []string{somewhere, "api 10.96.0.2 api-1 api-2", "db 10.96.0.3", "web 10.96.0.1 web-1", "restored"}},
			{time.Hour, nil, nil},
			{0, []string{somewhere, "web 10.96.0.1 web-7", "new 10.96.0.4"}, []string{somewhere, "web 10.96.0.1 web-7", "new 10.96.0.4"}},
			{0, []string{"complete"}, []string{"api gone", "db gone", "complete"}},
			{0, []string{"db 10.96.0.3", "new gone"}, []string{"db 10.96.0.3", "new gone"}},
		},
		"Live reported a part in time": {
			{time.Second, []string{"web 10.96.0.9", "api gone"}, []string{"web 10.96.0.9", "api gone"}},
			{time.Second, nil, []string{somewhere, "db 10.96.0.3", "restored"}},
			{0, []string{"place node-1", "complete"}, []string{somewhere, "db gone", "complete"}},
		},
		"Live reported the place in time": {
			{time.Second, []string{"place node-1"}, []string{somewhere}},
			{time.Second, nil, []string{"api 10.96.0.2 api-1 api-2", "db 10.96.0.3", "web 10.96.0.1 web-1", "restored"}},
			{0, []string{"complete"}, []string{"api gone", "db gone", "web gone", "complete"}},
		},
		"Live knows of no place": {
			{2 * time.Second, nil, []string{somewhere, "api 10.96.0.2 api-1 api-2", "db 10.96.0.3", "web 10.96.0.1 web-1", "restored"}},
			{0, []string{"db 10.96.0.3", "db gone", "complete"}, []string{"db 10.96.0.3", "db gone", "place nowhere []", "api gone", "web gone", "complete"}},
		},
		"Live restores too": {
			{time.Second, []string{"web 10.96.0.1", "restored"}, []string{"web 10.96.0.1", "restored"}},
			{time.Second, nil, []string{somewhere, "api 10.96.0.2 api-1 api-2", "db 10.96.0.3"}},
			{0, []string{"restored", "place node-1", "complete"}, []string{somewhere, "api gone", "db gone", "complete"}},
		},
		"Live says twice that it is complete": {
			{time.Second, []string{"complete", "complete", "restored"}, []string{"complete"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := keep(t, time.Unix(0, 0), shop("api", "10.96.0.2", "api-1", "api-2"), shop("db", "10.96.0.3"), shop("web", "10.96.0.1", "web-1"))
			synctest.Test(t, func(t *testing.T) {
				h := start(t, file)
				for _, s := range steps {
					h.wait(s.wait)
					h.say(s.say...)
					h.sink.mustSay(t, s.want...)
				}
				h.end(t)
				h.sink.mustSay(t)
			})
		})
	}
}

func TestAFileThatCannotBeUsedIsReportedAndChangesNothing(t *testing.T) {
	another := func(t *testing.T, change func(file string) error) string {
		file := keep(t, time.Unix(0, 0), shop("web", "10.96.0.1"))
		if err := change(file); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, test := range map[string]struct {
		change func(string) error
		want   string
	}{
		"none":    {os.Remove, ""},
		"empty":   {func(file string) error { return os.Truncate(file, 0) }, "it has 0 bytes, less than a header"},
		"cut off": {func(file string) error { return os.Truncate(file, headerSize+7) }, "it has 7 bytes after the header"},
		"garbage": {func(file string) error { return os.WriteFile(file, make([]byte, 1<<20), 0o600) }, "it is no snapshot"},
		"a flipped bit": {func(file string) error {
			b, err := os.ReadFile(file)
			b[headerSize+20] ^= 1
			return errors.Join(err, os.WriteFile(file, b, 0o600))
		}, "its content is damaged"},
		"of another Node": {func(file string) error {
			_, err := write(file, Header{Node: "node-2"}, defaultMaxBytes, content{})
			return err
		}, `it is of Node "node-2", not of "node-1"`},
	} {
		t.Run(name, func(t *testing.T) {
			file := another(t, test.change)
			synctest.Test(t, func(t *testing.T) {
				h := start(t, file)
				h.wait(time.Hour)
				h.sink.mustSay(t)
				s := h.Status()
				if text := fmt.Sprint(s.Err); (s.Err != nil) != (test.want != "") || !strings.Contains(text, test.want) {
					t.Errorf("status is %+v, want an error with %q", s, test.want)
				}
				if s.From != 0 || !s.Written.IsZero() {
					t.Errorf("status is %+v, as if there were a file", s)
				}
				if n := h.logs.Len(); n != 1 {
					t.Errorf("%d lines in the log, want one: %v", n, h.logs.All())
				}
				h.say("web 10.96.0.1", "complete")
				h.sink.mustSay(t, "web 10.96.0.1", "complete")
				h.end(t)
				if s := h.Status(); s.Err != nil || s.Written.IsZero() {
					t.Errorf("status is %+v after the end, want a file", s)
				}
			})
		})
	}
}

func TestStatusFollowsWhereObjectsComeFromAndHowOldTheFileIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := time.Now().Add(-5 * time.Hour)
		h := start(t, keep(t, before, shop("web", "10.96.0.1")))
		status := func(from Origin, written time.Time) {
			t.Helper()
			if s := h.Status(); s.From != from || !s.Written.Equal(written) || s.Err != nil {
				t.Errorf("status is %v, written %v, %v; want %v, %v", s.From, s.Written, s.Err, from, written)
			}
		}
		status(0, before)
		h.wait(2 * time.Second)
		status(Snapshot, before)
		if age := h.Status().Age(time.Now()); age != 5*time.Hour+2*time.Second {
			t.Errorf("the file is %v old", age)
		}
		h.say("complete")
		status(Live, before)
		h.wait(10 * time.Second)
		status(Live, time.Now())
		if age := h.Status().Age(before); age != 0 {
			t.Errorf("a file of the future is %v old", age)
		}
		h.end(t)
	})
}

func TestNothingIsToldOrWrittenAfterAnEndBeforeAllIsKnown(t *testing.T) {
	for name, wait := range map[string]time.Duration{"while it waits": time.Second, "when it restored": time.Minute} {
		t.Run(name, func(t *testing.T) {
			before := time.Unix(5, 0)
			file := keep(t, before, shop("db", "10.96.0.3"))
			synctest.Test(t, func(t *testing.T) {
				h := start(t, file)
				h.say("web 10.96.0.1")
				h.wait(wait)
				h.sink.lines = nil
				h.end(t)
				h.wait(time.Hour)
				h.sink.mustSay(t)
				if header, err := Stat(file); err != nil || !header.Written.Equal(before) {
					t.Errorf("the file is %+v, %v; want the old one", header, err)
				}
			})
		})
	}
}

func TestALiveSourceThatFailsEndsTheSource(t *testing.T) {
	for name, lines := range map[string][]string{"before it reported": nil, "after it reported": {"place node-1", "web 10.96.0.1", "complete"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, filepath.Join(t.TempDir(), "objects"))
				h.say(lines...)
				broken := errors.New("no more watches")
				h.live.fail <- broken
				if err := <-h.ended; !errors.Is(err, broken) {
					t.Errorf("ended with %v", err)
				}
				_, err := Stat(h.File)
				if reported := lines != nil; (err == nil) != reported {
					t.Errorf("reported is %v, reading the file: %v", reported, err)
				}
			})
		})
	}
}

func TestWithoutAFileLiveIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, "")
		h.wait(time.Hour)
		h.say("web 10.96.0.1", "complete")
		h.sink.mustSay(t, "web 10.96.0.1", "complete")
		h.end(t)
	})
}

// Whenever the file comes in between, reports come one at a time, and Live's are the last.
func TestTheLastWordIsLives(t *testing.T) {
	file := keep(t, time.Unix(0, 0), shop("a", "10.96.0.1"), shop("b", "10.96.0.1"), shop("c", "10.96.0.1"), shop("d", "10.96.0.1"))
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "10.96.0.2", "c": "10.96.0.2"}
	restored := 0
	for i := range 100 {
		if err := os.WriteFile(file, before, 0o600); err != nil { // what the end of the last round wrote is another
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		d, live := &diary{}, newScript()
		s := &Source{Live: live, File: file, Node: "node-1", Patience: time.Duration(rand.IntN(100)) * time.Microsecond}
		ended := make(chan error)
		go func() { ended <- s.Run(ctx, d) }()
		lines := []string{"a 10.96.0.2", "b gone", somewhere, "e 10.96.0.2", "e gone"}
		for range rand.IntN(1000) { // the file comes before, after or in the middle of these
			lines = append(lines, "c 10.96.0.3")
		}
		for _, line := range append(lines, "c 10.96.0.2", "complete") {
			live.calls <- says(line)
		}
		live.calls <- func(cluster.Sink) { stop() } // after the last line
		<-ended
		if strings.Contains(strings.Join(d.lines, ";"), "restored") {
			restored++
		}
		if got := replay(t, d.lines); !maps.Equal(got, want) {
			t.Fatalf("round %d: %v, want %v; reported %q", i, got, want, d.lines)
		}
	}
	t.Logf("the file came in between in %d rounds", restored)
}

// replay returns the state after these lines.
func replay(t *testing.T, lines []string) map[string]string {
	t.Helper()
	known := map[string]string{}
	for i, line := range lines {
		words := strings.Fields(line)
		switch {
		case strings.Contains(line, "while busy"):
			t.Fatal(line)
		case line == "complete":
			if i != len(lines)-1 {
				t.Fatalf("something was reported after complete: %q", lines)
			}
		case line == "restored" || words[0] == "place":
		case words[1] == "gone":
			delete(known, words[0])
		default:
			known[words[0]] = words[1]
		}
	}
	return known
}

func TestARunLeavesNoGoroutine(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	live, ended := newScript(), make(chan error)
	s := &Source{Live: live, File: filepath.Join(t.TempDir(), "objects"), Node: "node-1", Patience: time.Microsecond, Pause: time.Microsecond}
	testkit.LeavesNoGoroutine(t, func() {
		stop()
		<-ended
	})
	go func() { ended <- s.Run(ctx, &diary{}) }()
	live.calls <- says("web 10.96.0.1")
	live.calls <- says("complete")
	testkit.Eventually(t, "the file is written", func() bool { return !s.Status().Written.IsZero() })
}
