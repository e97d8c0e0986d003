// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
)

// boundFlags are flags that set fields of a pair of documents.
type boundFlags struct {
	*pflag.FlagSet
	pair  *proxyconfig.Pair
	names map[string]string // of the flags, by the paths of their fields

	// overriding are the flags that count beside --config too. kube-proxy ignores most of its flags then, and
	// a command line that it took must mean the same.
	overriding map[string]bool
	overrides  bool // whether the next flags are overriding
}

func newBoundFlags(f *pflag.FlagSet, p *proxyconfig.Pair) *boundFlags {
	return &boundFlags{FlagSet: f, pair: p, names: map[string]string{}, overriding: map[string]bool{}}
}

// override returns b for adding overriding flags.
func (b *boundFlags) override() *boundFlags {
	o := *b
	o.overrides = true
	return &o
}

// bind records which field a flag sets, and returns the flag's name.
func (b *boundFlags) bind(name, path string) string {
	b.names[path] = name
	if b.overrides {
		b.overriding[name] = true
	}
	return name
}

func (b *boundFlags) text(name, path string, to *string, usage string) {
	b.StringVar(to, b.bind(name, path), *to, usage)
}

func (b *boundFlags) boolean(name, path string, to *bool, usage string) {
	b.BoolVar(to, b.bind(name, path), *to, usage)
}

func (b *boundFlags) number(name, path string, to *int32, usage string) {
	b.Int32Var(to, b.bind(name, path), *to, usage)
}

func (b *boundFlags) duration(name, path string, to *metav1.Duration, usage string) {
	b.DurationVar(&to.Duration, b.bind(name, path), to.Duration, usage)
}

func (b *boundFlags) list(name, path string, to *[]string, usage string) {
	b.value(name, path, wordList(to), usage+", comma-separated")
}

func (b *boundFlags) value(name, path string, v pflag.Value, usage string) {
	b.Var(v, b.bind(name, path), usage)
}
