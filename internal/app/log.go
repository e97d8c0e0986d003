// SPDX-License-Identifier: Apache-2.0

package app

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// everything is the verbosity from which on all is told, as operators of
// kube-proxy know it.
const everything = 4

// NewLog returns a log that writes each line to w at once, with one call.
func NewLog(c config.Log, w io.Writer) *zap.Logger {
	level := zapcore.InfoLevel
	if c.Verbosity >= everything {
		level = zapcore.DebugLevel
	}
	return zap.New(zapcore.NewCore(encoder(c), zapcore.Lock(zapcore.AddSync(w)), level))
}

func encoder(c config.Log) zapcore.Encoder {
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime = zapcore.ISO8601TimeEncoder
	e.EncodeDuration = zapcore.StringDurationEncoder
	if c.JSON {
		return zapcore.NewJSONEncoder(e)
	}
	return zapcore.NewConsoleEncoder(e)
}
