// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestReportsAreLoggedByHowBadTheyAre(t *testing.T) {
	problems := []error{errors.New("a.yaml:1: kind: is missing")}
	for _, test := range []struct {
		report Report
		level  zapcore.Level
		text   string
	}{
		{Report{Problems: problems, Broken: true}, zap.ErrorLevel, "manifest is invalid; keeping its last valid objects"},
		{Report{Problems: problems}, zap.WarnLevel, "manifest has problems"},
		{Report{Good: true}, zap.InfoLevel, "manifest is valid again"},
		{Report{Gone: true}, zap.InfoLevel, "manifest removed"},
		{Report{Ignored: map[string]int{"v1 Pod": 1}}, zap.DebugLevel, "manifest read"},
	} {
		core, logs := observer.New(zap.DebugLevel)
		Log(zap.New(core))(test.report)
		if all := logs.All(); len(all) != 1 || all[0].Level != test.level || all[0].Message != test.text {
			t.Errorf("%+v is logged as %+v", test.report, all)
		}
	}
}

func TestLostEventsMakeAllFilesDirty(t *testing.T) {
	in, w := newInbox(), newWatches("/manifests", nil)
	in.put("/manifests/a.yaml", false)
	if !w.happened(in, nil) {
		t.Error("an event of a manifest is nothing")
	}
	if dirty := w.take(); !dirty("a.yaml") || dirty("b.yaml") {
		t.Error("not exactly the one file is dirty")
	}
	in.put("/manifests/notes.txt", false)
	in.put("/other", false)
	if w.happened(in, nil) {
		t.Error("events of other files are something")
	}
	in.put("", true)
	if !w.happened(in, nil) || !w.take()("b.yaml") {
		t.Error("after lost events a file is not dirty")
	}
}
