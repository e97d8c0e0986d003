// SPDX-License-Identifier: Apache-2.0

package file

import (
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
)

// Report is the result of reading one file.
type Report struct {
	File     string         // its name; of the directory if that cannot be read
	Problems []error        // sorted by line; none: all is well
	Broken   bool           // the content is not used; the file's last valid objects stay
	Gone     bool           // the file was removed, and its objects with it
	Good     bool           // there were problems before, and are none now
	Objects  int            // how many objects of the file count, duplicates included
	Ignored  map[string]int // number of objects of kinds that are not used
}

// Problem is a problem in one place of a file.
type Problem struct {
	File   string
	Line   int    // from 1; 0: of no line
	Object string // "Service shop/web"; empty: of no object
	Field  string // "spec.ports[0].port"; empty: of no field
	Text   string
}

// Error is "demo.yaml:17: Service shop/web: spec.ports[0].port: expected ...".
func (p Problem) Error() string {
	text := p.Text
	for _, part := range []string{p.Field, p.Object} {
		if part != "" {
			text = part + ": " + text
		}
	}
	if p.Line == 0 {
		return p.File + ": " + text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, text)
}

// maxProblems is how many problems of one file are reported one by one.
const maxProblems = 10

// capped returns the first problems as errors, and a last error that counts the rest.
func capped(file string, problems []Problem) []error {
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	var all []error
	for i, p := range problems {
		if i == maxProblems {
			return append(all, fmt.Errorf("%s: and %d more problems", file, len(problems)-i))
		}
		p.File = file
		all = append(all, p)
	}
	return all
}

// Log returns a function for Source.Report that writes reports to log.
func Log(log *zap.Logger) func(Report) {
	return func(r Report) {
		log := log.With(zap.String("file", r.File), zap.Int("objects", r.Objects))
		switch {
		case r.Gone:
			log.Info("manifest removed")
		case r.Broken:
			log.Error("manifest is invalid; keeping its last valid objects", zap.Errors("problems", r.Problems))
		case len(r.Problems) > 0:
			log.Warn("manifest has problems", zap.Errors("problems", r.Problems))
		case r.Good:
			log.Info("manifest is valid again")
		default:
			log.Debug("manifest read", zap.Any("ignored", r.Ignored))
		}
	}
}

// identity identifies an object.
type identity struct {
	kind string
	name types.NamespacedName
}

// String is "Service shop/web", "Node node-1".
func (i identity) String() string {
	return i.kind + " " + strings.TrimPrefix(i.name.String(), "/")
}
