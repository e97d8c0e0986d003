// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
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

// Klog is where client-go and all else that logs through klog write to: one log,
// then another one after each change of the configuration. klog itself is given a
// logger once, as it may not be in use when it gets one, and client-go is from the
// start to the end.
type Klog struct {
	once sync.Once
	core atomic.Pointer[zapcore.Core]
}

// LogTo lets what goes through klog go to log from now on, with klog's own
// verbosity. There is one klog in a program, so there is to be one Klog. The first
// call has to come before anything of client-go is made.
func (k *Klog) LogTo(c config.Log, log *zap.Logger) error {
	var level klog.Level
	if err := level.Set(strconv.Itoa(c.Verbosity)); err != nil {
		return fmt.Errorf("setting the verbosity of klog to %d: %w", c.Verbosity, err)
	}
	core := zapcore.Core(verbose{log.Core(), zapcore.Level(-min(c.Verbosity, 127))})
	if c.Verbosity < everything {
		core = zapcore.NewSamplerWithOptions(core, repeatedIn, repeated, 0)
	}
	k.core.Store(&core)
	k.once.Do(func() {
		log := log.Named("client-go").WithOptions(zap.WrapCore(func(zapcore.Core) zapcore.Core { return present{klog: k} }))
		klog.SetLoggerWithOptions(zapr.NewLogger(log), klog.ContextualLogger(true), klog.FlushLogger(func() {
			_ = k.log().Sync() // nothing is held back here, and a terminal or pipe can't be synced
		}))
	})
	return nil
}

func (k *Klog) log() zapcore.Core { return *k.core.Load() }

// present is the core that klog logs to at present. A logger of client-go that was
// made earlier has it too.
type present struct {
	klog   *Klog
	fields []zap.Field // of such a logger
}

func (p present) Enabled(l zapcore.Level) bool { return p.klog.log().Enabled(l) }

func (p present) With(fields []zap.Field) zapcore.Core {
	return present{p.klog, slices.Concat(p.fields, fields)}
}

func (p present) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	core := p.klog.log()
	if len(p.fields) > 0 {
		core = core.With(p.fields)
	}
	return core.Check(e, c)
}

func (p present) Write(e zapcore.Entry, fields []zap.Field) error {
	return p.klog.log().Write(e, slices.Concat(p.fields, fields))
}

func (p present) Sync() error { return p.klog.log().Sync() }

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
