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
	pair *proxyconfig.Pair

	// names are those of the flags, by the paths of the fields.
	names map[string]string

	// firm are the flags that count beside --config too. kube-proxy ignores all
	// of its own but a few then, and a command line that it took has to mean
	// what it meant.
	firm map[string]bool
}

func newBoundFlags(f *pflag.FlagSet, p *proxyconfig.Pair) *boundFlags {
	return &boundFlags{FlagSet: f, pair: p, names: map[string]string{}, firm: map[string]bool{}}
}

// hold makes the flags firm.
func (b *boundFlags) hold(names ...string) {
	for _, n := range names {
		b.firm[n] = true
	}
}

func (b *boundFlags) text(name, path string, to *string, usage string) {
	b.StringVar(to, name, *to, usage)
	b.names[path] = name
}

func (b *boundFlags) yes(name, path string, to *bool, usage string) {
	b.BoolVar(to, name, *to, usage)
	b.names[path] = name
}

func (b *boundFlags) number(name, path string, to *int32, usage string) {
	b.Int32Var(to, name, *to, usage)
	b.names[path] = name
}

func (b *boundFlags) time(name, path string, to *metav1.Duration, usage string) {
	b.DurationVar(&to.Duration, name, to.Duration, usage)
	b.names[path] = name
}

func (b *boundFlags) list(name, path string, to *[]string, usage string) {
	b.value(name, path, &words{to: to}, usage+", comma-separated")
}

func (b *boundFlags) value(name, path string, v pflag.Value, usage string) {
	b.Var(v, name, usage)
	b.names[path] = name
}
