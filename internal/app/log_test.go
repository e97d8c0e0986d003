// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// page keeps the lines of a log, and is its clock.
type page struct {
	bytes.Buffer
	calls, synced int
	now           time.Time
}

func (p *page) Write(line []byte) (int, error) {
	p.calls++
	return p.Buffer.Write(line)
}

func (p *page) Sync() error {
	p.synced++
	return nil
}

func (p *page) Now() time.Time                         { return p.now }
func (p *page) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }

// take returns the lines since the last call.
func (p *page) take() []string {
	defer p.Reset()
	return strings.Split(strings.TrimSuffix(p.String(), "\n"), "\n")
}

// open returns a log on a page, which klog uses until the test ends.
func open(t *testing.T, c config.Log) (*zap.Logger, *page) {
	t.Helper()
	return openNext(t, c, &libraryLogs{})
}

// openNext is open for libraryLogs that are in use.
func openNext(t *testing.T, c config.Log, libraries *libraryLogs) (*zap.Logger, *page) {
	t.Helper()
	p := &page{now: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)}
	log := newLog(c, p).WithOptions(zap.WithClock(p))
	if err := libraries.logTo(c, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		klog.ClearLogger()
		var level klog.Level
		if err := level.Set("0"); err != nil {
			t.Error(err)
		}
	})
	return log, p
}

func wantLines(t *testing.T, p *page, want ...string) {
	t.Helper()
	if len(want) == 0 {
		want = []string{""}
	}
	if d := cmp.Diff(want, p.take()); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
}

func TestALineIsTextWithFieldsAsJSON(t *testing.T) {
	log, p := open(t, config.Log{})
	log.Warn("repaired kernel drift", zap.Int("rows", 3), zap.Duration("took", 1500*time.Millisecond), zap.Error(errors.New("two\nlines")))
	wantLines(t, p, "2026-01-02T03:04:05.006Z\twarn\trepaired kernel drift\t"+`{"rows": 3, "took": "1.5s", "error": "two\nlines"}`)
	if p.calls != 1 {
		t.Errorf("%d calls for a line", p.calls)
	}
}

func TestALineIsJSONIfThatWasChosen(t *testing.T) {
	log, p := open(t, config.Log{JSON: true})
	log.Info("starting", zap.String("node", "n1"))
	klog.ErrorS(errors.New("refused"), "Failed to watch", "type", "*v1.Service")
	lines := p.take()
	want := []map[string]any{
		{"level": "info", "ts": "2026-01-02T03:04:05.006Z", "msg": "starting", "node": "n1"},
		{"level": "error", "ts": "2026-01-02T03:04:05.006Z", "logger": "client-go", "msg": "Failed to watch", "type": "*v1.Service", "error": "refused"},
	}
	var got []map[string]any
	for _, line := range lines {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, fields)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
}

func TestAnErrorOfClientGoIsOneLineWithFields(t *testing.T) {
	_, p := open(t, config.Log{})
	klog.ErrorS(errors.New("dial tcp 192.0.2.1:6443: connect: connection refused"), "Failed to watch", "type", "*v1.Service", "reflector", "factory.go:160")
	wantLines(t, p, "2026-01-02T03:04:05.006Z\terror\tFailed to watch\t"+
		`{"type": "*v1.Service", "reflector": "factory.go:160", "error": "dial tcp 192.0.2.1:6443: connect: connection refused", "logger": "client-go"}`)

	klog.Errorf("unable to sync %d caches", 2)
	wantLines(t, p, "2026-01-02T03:04:05.006Z\terror\tunable to sync 2 caches\t"+`{"logger": "client-go"}`)

	ctx := klog.NewContext(context.Background(), klog.Background().WithName("services").WithValues("node", "n1"))
	utilruntime.HandleErrorWithContext(ctx, errors.New("gone"), "Unknown watch event")
	wantLines(t, p, "2026-01-02T03:04:05.006Z\terror\tUnknown watch event\t"+
		`{"node": "n1", "error": "gone", "logger": "client-go.services.UnhandledError"}`)
}

// stamp is the time of a line. Go's own loggers take it from the machine's clock.
var stamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT[^\t]*Z\t`)

// moby/ipvs uses logrus, and net/http package log. Their lines have the form of ours, and go to the same place.
func TestWhateverALibraryLogsByThereIsOneLog(t *testing.T) {
	broken := errors.New("exec: no modprobe")
	for want, say := range map[string]func(){
		"warn\tmodprobe failed\t" + `{"error": "exec: no modprobe", "module": "ip_vs", "logger": "logrus"}`: func() {
			logrus.WithError(broken).WithField("module", "ip_vs").Warnf("modprobe %s", "failed")
		},
		"error\tno family\t" + `{"logger": "logrus"}`: func() { logrus.Error("no family") },
		"info\tinfo\t" + `{"logger": "logrus"}`:       func() { logrus.Info("info") },
		"": func() {
			logrus.Debug("not logged")
			slog.Debug("not logged")
			slog.Default().With("a", 1).Debug("not logged")
		},
		"warn\thttp: panic serving 192.0.2.1\t" + `{"logger": "go"}`: func() { stdlog.Printf("http: panic serving %s\n", "192.0.2.1") },
		"error\trefused\t" + `{"n": 3, "logger": "go"}`:              func() { slog.Error("refused", "n", 3) },
		"info\tfine\t" + `{"n": 3, "logger": "go"}`:                  func() { slog.With("n", 3).Info("fine") },
	} {
		_, p := open(t, config.Log{})
		say()
		if got := stamp.ReplaceAllString(p.take()[0], ""); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}

	log, p := open(t, config.Log{Verbosity: 4})
	log.Info("ours")
	logrus.Debug("logrus")
	stdlog.Print("log")
	slog.Debug("slog")
	if got, want := messages(p), "ours info, logrus debug, log warn, slog debug"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// logrus itself panics after the line is logged.
func TestALineOfPanicIsTold(t *testing.T) {
	_, p := open(t, config.Log{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("logrus does not panic")
			}
		}()
		logrus.Panic("all is lost")
	}()
	wantLines(t, p, "2026-01-02T03:04:05.006Z\terror\tall is lost\t"+`{"logger": "logrus"}`)
}

func TestHowMuchIsToldFollowsTheVerbosity(t *testing.T) {
	for verbosity, want := range map[int]string{
		0: "ours: info. klog: 0 info. contextual: 0 info.",
		1: "ours: info. klog: 0 info, 1 debug. contextual: 0 info, 1 debug.",
		3: "ours: info. klog: 0 info, 1 debug, 2 debug, 3 debug. contextual: 0 info, 1 debug, 2 debug, 3 debug.",
		4: "ours: info, debug. klog: 0 info, 1 debug, 2 debug, 3 debug, 4 debug. contextual: 0 info, 1 debug, 2 debug, 3 debug, 4 debug.",
		6: "ours: info, debug. klog: 0 info, 1 debug, 2 debug, 3 debug, 4 debug, 5 debug, 6 debug. contextual: 0 info, 1 debug, 2 debug, 3 debug, 4 debug, 5 debug, 6 debug.",
	} {
		t.Run(fmt.Sprint(verbosity), func(t *testing.T) {
			log, p := open(t, config.Log{Verbosity: verbosity})
			log.Info("info")
			log.Debug("debug")
			ours := messages(p)
			for v := range 9 {
				klog.V(klog.Level(v)).InfoS(fmt.Sprint(v))
			}
			through := messages(p)
			for v := range 9 {
				klog.Background().V(v).Info(fmt.Sprint(v))
			}
			got := fmt.Sprintf("ours: %s. klog: %s. contextual: %s.", ours, through, messages(p))
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// messages returns the messages that were written, with their levels if these differ.
func messages(p *page) string {
	var list []string
	for _, line := range p.take() {
		columns := strings.Split(line, "\t")
		level, message := columns[1], columns[2]
		if message == level {
			list = append(list, message)
			continue
		}
		list = append(list, message+" "+level)
	}
	return strings.Join(list, ", ")
}

func TestRetriesOfClientGoDoNotFloodTheLog(t *testing.T) {
	attempts := func(p *page) int {
		for i := range 100 {
			utilruntime.HandleErrorWithContext(context.Background(), fmt.Errorf("attempt %d", i), "Failed to watch", "type", fmt.Sprint("*v1.Type", i%4))
		}
		return len(p.take())
	}
	_, p := open(t, config.Log{})
	if n := attempts(p); n != 4 {
		t.Errorf("%d lines of 100 attempts, want 4", n)
	}
	klog.ErrorS(nil, "something else")
	if line := p.take(); !strings.Contains(line[0], "something else") {
		t.Errorf("got %q for another message", line)
	}
	p.now = p.now.Add(11 * time.Minute)
	if n := attempts(p); n != 4 {
		t.Errorf("%d lines of 100 attempts some time later, want 4", n)
	}

	// Our own lines with one message are each about another Service.
	log, p := open(t, config.Log{})
	for range 100 {
		log.Warn("part of a Service is left out")
	}
	if n := len(p.take()); n != 100 {
		t.Errorf("%d of 100 lines of our own", n)
	}

	_, p = open(t, config.Log{Verbosity: 4})
	if n := attempts(p); n != 100 {
		t.Errorf("%d lines of 100 attempts at verbosity 4, want all", n)
	}
}

// klog must not be in use when it gets a logger, and client-go uses it all the time: the race detector would find that.
// So a changed configuration changes where the one logger writes, also for loggers that client-go made of it before.
func TestAChangedConfigurationMovesKlogWhileItIsInUse(t *testing.T) {
	var libraries libraryLogs
	_, before := openNext(t, config.Log{}, &libraries)
	made := klog.Background().WithName("reflector").WithValues("node", "n1")
	made.Info("first")
	wantLines(t, before, "2026-01-02T03:04:05.006Z\tinfo\tfirst\t"+`{"node": "n1", "logger": "client-go.reflector"}`)

	stop := make(chan struct{})
	var logs sync.WaitGroup
	logs.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				klog.V(9).InfoS("in use")
				made.V(9).Info("in use")
			}
		}
	})
	_, after := openNext(t, config.Log{JSON: true, Verbosity: 2}, &libraries)
	close(stop)
	logs.Wait()

	made.V(2).Info("second")
	klog.InfoS("third")
	wantLines(t, before)
	wantLines(t, after,
		`{"level":"debug","ts":"2026-01-02T03:04:05.006Z","msg":"second","node":"n1","logger":"client-go.reflector"}`,
		`{"level":"info","ts":"2026-01-02T03:04:05.006Z","msg":"third","logger":"client-go"}`)
	klog.Flush()
	if before.synced != 0 || after.synced != 1 {
		t.Errorf("a flush synced the log of before %d times and that of now %d times", before.synced, after.synced)
	}
}

func TestFlushReachesWhereLinesGo(t *testing.T) {
	log, p := open(t, config.Log{})
	klog.Flush()
	if p.synced != 1 {
		t.Errorf("synced %d times after klog was flushed, want once", p.synced)
	}
	if err := log.Sync(); err != nil || p.synced != 2 {
		t.Errorf("synced %d times, %v", p.synced, err)
	}
}
