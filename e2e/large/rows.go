// SPDX-License-Identifier: Apache-2.0

package large

import (
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Rows are what the kernel of a node holds when it serves all objects.
func Rows(c config.Config, n plan.Node, objects []plan.Objects) state.State {
	d := desired.New()
	d.Upsert(desired.Owner{}, time.Time{}, plan.Base(c))
	for _, o := range objects {
		owner := desired.Owner{Namespace: o.Service.Namespace, Name: o.Service.Name}
		d.Upsert(owner, o.Service.CreationTimestamp.Time, plan.Service(o, n, c))
	}
	return d.State()
}
