// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"fmt"
	"strconv"
	"time"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// While the API server is away client-go tells of every attempt of each of its
// watches. Of one message that many lines pass in a time; what becomes of the
// connection as a whole is told by those who keep it.
const (
	repeated   = 4
	repeatedIn = 10 * time.Minute
)

// TakeKlog lets client-go and all else that logs through klog do so through
// log, with klog's own verbosity. klog is one for the whole program, and may
// not be in use meanwhile: call it once, before anything of client-go is made.
func TakeKlog(c config.Log, log *zap.Logger) error {
	var level klog.Level
	if err := level.Set(strconv.Itoa(c.Verbosity)); err != nil {
		return fmt.Errorf("setting the verbosity of klog to %d: %w", c.Verbosity, err)
	}
	log = log.Named("client-go").WithOptions(zap.WrapCore(func(inner zapcore.Core) zapcore.Core {
		core := zapcore.Core(verbose{inner, zapcore.Level(-min(c.Verbosity, 127))})
		if c.Verbosity < everything {
			core = zapcore.NewSamplerWithOptions(core, repeatedIn, repeated, 0)
		}
		return core
	}))
	klog.SetLoggerWithOptions(zapr.NewLogger(log), klog.ContextualLogger(true), klog.FlushLogger(func() {
		_ = log.Sync() // nothing is held back here, and a terminal or pipe can't be synced
	}))
	return nil
}

// verbose is a core that lets more pass than the one inside does: zapr makes
// klog's V(n) the level -n. What is less than debug is written as that, and who
// tells it as a field, so that all lines of text have the same columns.
type verbose struct {
	zapcore.Core
	least zapcore.Level
}

func (v verbose) Enabled(l zapcore.Level) bool { return l >= v.least }

func (v verbose) With(fields []zap.Field) zapcore.Core {
	return verbose{v.Core.With(fields), v.least}
}

func (v verbose) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if v.Enabled(e.Level) {
		return c.AddCore(e, v)
	}
	return c
}

func (v verbose) Write(e zapcore.Entry, fields []zap.Field) error {
	e.Level = max(e.Level, zapcore.DebugLevel)
	by := zap.String("logger", e.LoggerName)
	e.LoggerName = ""
	return v.Core.Write(e, append(fields[:len(fields):len(fields)], by))
}
