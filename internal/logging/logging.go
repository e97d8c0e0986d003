// SPDX-License-Identifier: Apache-2.0

// Package logging makes the one log that all lines go to, those of libraries
// too: a fixed message and fields, as text for eyes and grep or as JSON.
//
// What is worth a line, and of which level, is for those who write it.
package logging

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// everything is the verbosity from which on all is told, as operators of
// kube-proxy know it.
const everything = 4

// New returns a log that writes each line to w at once, with one call.
func New(c config.Log, w io.Writer) *zap.Logger {
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
