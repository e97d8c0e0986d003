// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
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

// Libraries is where libraries write to, whatever they log by: klog, Go's own two
// loggers or logrus. It is one log, then another one after each change of the
// configuration. Each of these is told of it once, since klog may not be in use when
// it gets a logger, and client-go is from the start to the end.
type Libraries struct {
	once sync.Once
	core atomic.Pointer[zapcore.Core]
}

// LogTo lets what libraries say go to log from now on, with klog's own verbosity.
// Their loggers are the program's, so there is to be one Libraries in it. The first
// call has to come before anything of client-go is made.
func (l *Libraries) LogTo(c config.Log, log *zap.Logger) error {
	var level klog.Level
	if err := level.Set(strconv.Itoa(c.Verbosity)); err != nil {
		return fmt.Errorf("setting the verbosity of klog to %d: %w", c.Verbosity, err)
	}
	core := zapcore.Core(verbose{log.Core(), zapcore.Level(-min(c.Verbosity, 127))})
	if c.Verbosity < everything {
		core = zapcore.NewSamplerWithOptions(core, repeatedIn, repeated, 0)
	}
	l.core.Store(&core)
	l.once.Do(func() { l.takeAll(log) })
	return nil
}

// takeAll makes all loggers write to the present core.
func (l *Libraries) takeAll(log *zap.Logger) {
	log = log.WithOptions(zap.WrapCore(func(zapcore.Core) zapcore.Core { return present{libraries: l} }))
	klog.SetLoggerWithOptions(zapr.NewLogger(log.Named("client-go")), klog.ContextualLogger(true), klog.FlushLogger(func() {
		_ = l.log().Sync() // nothing is held back here, and a terminal or pipe can't be synced
	}))
	// What goes through package log has no level. It is said of something that is not as it should be.
	slog.SetLogLoggerLevel(slog.LevelWarn)
	slog.SetDefault(slog.New(logr.ToSlogHandler(zapr.NewLogger(log.Named("go"))))) // package log goes there, too
	takeLogrus(log.Named("logrus"))
}

func (l *Libraries) log() zapcore.Core { return *l.core.Load() }

// present is the core that libraries log to at present. A logger that one of them
// made earlier has it too.
type present struct {
	libraries *Libraries
	fields    []zap.Field // of such a logger
}

func (p present) Enabled(l zapcore.Level) bool { return p.libraries.log().Enabled(l) }

func (p present) With(fields []zap.Field) zapcore.Core {
	return present{p.libraries, slices.Concat(p.fields, fields)}
}

func (p present) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	core := p.libraries.log()
	if len(p.fields) > 0 {
		core = core.With(p.fields)
	}
	return core.Check(e, c)
}

func (p present) Write(e zapcore.Entry, fields []zap.Field) error {
	return p.libraries.log().Write(e, slices.Concat(p.fields, fields))
}

func (p present) Sync() error { return p.libraries.log().Sync() }

// verbose is a core that lets more pass than the one inside does: zapr makes
// klog's V(n) the level -n. What is less than debug is written as that, who tells
// it as a field, and where in its source not at all, so that all lines of text have
// the same columns.
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
	e.Caller = zapcore.EntryCaller{}
	by := zap.String("logger", e.LoggerName)
	e.LoggerName = ""
	return v.Core.Write(e, append(fields[:len(fields):len(fields)], by))
}
