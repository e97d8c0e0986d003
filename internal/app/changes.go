// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// note writes down the result of a delta, in the order of removal.
func (x *cleanup) note(d state.Delta, r kernel.Results) {
	r.Written(d, func(t state.Table, verb string, key any) {
		x.done.Changes = append(x.done.Changes, cli.Change{Verb: verb, Table: t.Title(), Row: fmt.Sprint(key)})
	})
}
