// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

const (
	// debugVerbosity is the verbosity at which everything is logged, as operators of kube-proxy know it.
	debugVerbosity = 4

	// While the API server is away, client-go logs every attempt. This many lines with one message pass in this time.
	// The kube source logs the state of the connection.
	sameLines  = 4
	sameWithin = 10 * time.Minute
)

// openLog opens the log on standard error, for us and for libraries.
func openLog(c config.Log, libraries *libraryLogs) (*zap.Logger, error) {
	log := newLog(c, os.Stderr)
	return log, libraries.logTo(c, log)
}

// newLog returns a log that writes each line to w at once, in one call.
func newLog(c config.Log, w io.Writer) *zap.Logger {
	level := zapcore.InfoLevel
	if c.Verbosity >= debugVerbosity {
		level = zapcore.DebugLevel
	}
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime = zapcore.ISO8601TimeEncoder
	e.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewConsoleEncoder(e)
	if c.JSON {
		encoder = zapcore.NewJSONEncoder(e)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level))
}

// libraryLogs is the log of all libraries, which use klog, log, slog or logrus. Each of these gets its logger once,
// because klog must not be in use then. What that logger writes to changes with the configuration.
type libraryLogs struct {
	once sync.Once
	core atomic.Pointer[zapcore.Core]
}

// logTo sends the logs of libraries to log from now on. The loggers of libraries are global, so a program has one
// libraryLogs. Call it before anything of client-go is made.
func (l *libraryLogs) logTo(c config.Log, log *zap.Logger) error {
	var level klog.Level
	if err := level.Set(strconv.Itoa(c.Verbosity)); err != nil {
		return fmt.Errorf("setting the verbosity of klog to %d: %w", c.Verbosity, err)
	}
	core := zapcore.Core(libraryCore{log.Core(), zapcore.Level(-min(c.Verbosity, 127))})
	if c.Verbosity < debugVerbosity {
		core = zapcore.NewSamplerWithOptions(core, sameWithin, sameLines, 0)
	}
	l.core.Store(&core)
	l.once.Do(func() { l.setLoggers(log) })
	return nil
}

// setLoggers makes the loggers of libraries write to the current core.
func (l *libraryLogs) setLoggers(log *zap.Logger) {
	log = log.WithOptions(zap.WrapCore(func(zapcore.Core) zapcore.Core { return currentCore{libraries: l} }))
	klog.SetLoggerWithOptions(zapr.NewLogger(log.Named("client-go")), klog.ContextualLogger(true), klog.FlushLogger(func() {
		_ = l.current().Sync() // no line is held back, and a terminal or pipe cannot be synced
	}))
	slog.SetLogLoggerLevel(slog.LevelWarn) // of package log, which has no levels, and logs problems by slog's logger
	slog.SetDefault(slog.New(logr.ToSlogHandler(zapr.NewLogger(log.Named("go")))))
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.TraceLevel) // the log decides
	hooks := logrus.LevelHooks{}
	hooks.Add(logrusHook{log.Named("logrus")})
	logrus.StandardLogger().ReplaceHooks(hooks)
}

func (l *libraryLogs) current() zapcore.Core { return *l.core.Load() }

// currentCore is the core that libraries log to at present. Loggers that they made earlier use it too.
type currentCore struct {
	libraries *libraryLogs
	fields    []zap.Field // of such a logger
}

func (c currentCore) Enabled(l zapcore.Level) bool { return c.libraries.current().Enabled(l) }

func (c currentCore) With(fields []zap.Field) zapcore.Core {
	return currentCore{c.libraries, slices.Concat(c.fields, fields)}
}

func (c currentCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	core := c.libraries.current()
	if len(c.fields) > 0 {
		core = core.With(c.fields)
	}
	return core.Check(e, checked)
}

func (c currentCore) Write(e zapcore.Entry, fields []zap.Field) error {
	return c.libraries.current().Write(e, slices.Concat(c.fields, fields))
}

func (c currentCore) Sync() error { return c.libraries.current().Sync() }

// libraryCore passes more levels than the core inside: zapr makes klog's V(n) the level -n. To have the columns of our
// own lines, levels below debug become debug, and the logger's name becomes a field.
type libraryCore struct {
	zapcore.Core
	least zapcore.Level
}

func (c libraryCore) Enabled(l zapcore.Level) bool { return l >= c.least }

func (c libraryCore) With(fields []zap.Field) zapcore.Core {
	return libraryCore{c.Core.With(fields), c.least}
}

func (c libraryCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c libraryCore) Write(e zapcore.Entry, fields []zap.Field) error {
	e.Level = max(e.Level, zapcore.DebugLevel)
	e.Caller = zapcore.EntryCaller{}
	logger := zap.String("logger", e.LoggerName)
	e.LoggerName = ""
	return c.Core.Write(e, append(slices.Clip(fields), logger))
}

// logrusHook sends lines of logrus, which moby/ipvs uses, to a log.
type logrusHook struct{ log *zap.Logger }

func (logrusHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h logrusHook) Fire(e *logrus.Entry) error {
	if c := h.log.Check(zapLevel(e.Level), e.Message); c != nil {
		fields := make([]zap.Field, 0, len(e.Data))
		for _, key := range slices.Sorted(maps.Keys(e.Data)) {
			fields = append(fields, zap.Any(key, e.Data[key]))
		}
		c.Write(fields...)
	}
	return nil
}

// zapLevel converts a level. After a line, logrus itself ends the program (fatal) or panics (panic).
func zapLevel(l logrus.Level) zapcore.Level {
	switch l {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		return zapcore.ErrorLevel
	case logrus.WarnLevel:
		return zapcore.WarnLevel
	case logrus.InfoLevel:
		return zapcore.InfoLevel
	default:
		return -debugVerbosity
	}
}
