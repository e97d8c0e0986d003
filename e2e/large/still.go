// SPDX-License-Identifier: Apache-2.0

package large

import (
	"context"
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/node"
)

// Still is a node whose addresses never change, for a daemon of which all else is measured.
type Still []netip.Addr

// Now has these addresses and nothing else.
func (s Still) Now(context.Context) (node.Event, error) { return node.Event{Addresses: s}, nil }

// Watch has nothing to tell until ctx ends.
func (Still) Watch(ctx context.Context, _ func(node.Event)) error {
	<-ctx.Done()
	return ctx.Err()
}
