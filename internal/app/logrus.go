// SPDX-License-Identifier: Apache-2.0

package app

import (
	"io"
	"maps"
	"slices"

	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// takeLogrus makes logrus, by which moby/ipvs logs, write to log, which decides what
// is told.
func takeLogrus(log *zap.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.TraceLevel)
	hooks := logrus.LevelHooks{}
	hooks.Add(hook{log})
	logrus.StandardLogger().ReplaceHooks(hooks)
}

// hook gives what goes through logrus to a log.
type hook struct{ log *zap.Logger }

func (hook) Levels() []logrus.Level { return logrus.AllLevels }

func (h hook) Fire(e *logrus.Entry) error {
	if c := h.log.Check(level(e.Level), e.Message); c != nil {
		fields := make([]zap.Field, 0, len(e.Data))
		for _, key := range slices.Sorted(maps.Keys(e.Data)) {
			fields = append(fields, zap.Any(key, e.Data[key]))
		}
		c.Write(fields...)
	}
	return nil
}

// level is zap's for one of logrus. After a fatal line logrus itself ends the program, and after one of panic it panics.
func level(l logrus.Level) zapcore.Level {
	switch l {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		return zapcore.ErrorLevel
	case logrus.WarnLevel:
		return zapcore.WarnLevel
	case logrus.InfoLevel:
		return zapcore.InfoLevel
	default:
		return -everything // told to whom all is told
	}
}
