// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestTheLinkSaysWhenItChangesAndSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		var l link
		start := time.Now()
		l.begin(zap.New(core))
		check := func(when string, connected bool, since, event time.Duration, lines ...string) {
			t.Helper()
			s := l.status()
			if s.Connected != connected || s.Since.Sub(start) != since || !s.LastEvent.IsZero() && s.LastEvent.Sub(start) != event {
				t.Errorf("%s: connected is %v since %v, the last event at %v", when, s.Connected, s.Since.Sub(start), s.LastEvent.Sub(start))
			}
			var got []string
			for _, e := range logs.TakeAll() {
				got = append(got, fmt.Sprint(e.Level, " ", e.ContextMap()["after"]))
			}
			if !slices.Equal(got, lines) {
				t.Errorf("%s: logged %q, want %q", when, got, lines)
			}
		}
		all := []string{"services", "endpointslices", "nodes", "servicecidrs"}
		each := func(do func(string)) {
			for _, kind := range all {
				time.Sleep(time.Second)
				do(kind)
			}
		}
		fail := func(kind string) { l.failed(kind, errors.New("connection refused")) }
		check("at first", false, 0, 0)
		each(fail)
		each(fail)
		check("tried in vain", false, 0, 0, "warn <nil>")
		each(l.answered)
		check("reached", true, 12*time.Second, 12*time.Second, "info 12s")
		each(func(string) { l.heard() })
		each(l.answered)
		check("watches that begin anew", true, 12*time.Second, 20*time.Second)
		fail("services")
		time.Sleep(time.Hour)
		each(fail)
		check("lost", false, 20*time.Second, 20*time.Second, "warn <nil>")
		waiting := l.returns()
		each(func(kind string) {
			l.answered(kind)
			select {
			case <-waiting:
			default:
				t.Errorf("waiters were not notified that %s is answered", kind)
			}
		})
		check("back", true, time.Hour+28*time.Second, time.Hour+28*time.Second, "info 1h0m8s")
	})
}
