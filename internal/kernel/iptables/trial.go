// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Takes reports whether the kernel and the tools of a family take a rule in table nat. They are asked with
// one, as tools take more than their kernel, and a module is loaded only by who needs it. The rule is in a
// chain of that name for a moment. A process that is killed then leaves that behind, where no packet comes.
func (c *Conn) Takes(ctx context.Context, f state.Family, chain, rule string) (bool, error) {
	text := fmt.Sprintf("*nat\n:%[1]s - [0:0]\n-A %[1]s %[2]s\nCOMMIT\n*nat\n-F %[1]s\n-X %[1]s\nCOMMIT\n", chain, rule)
	err := c.restore(ctx, f, script{text: text})
	refused, is := errors.AsType[*toolError](err)
	switch {
	case err == nil:
		return true, nil
	case is && refused.exit != exitBusy:
		return false, nil
	}
	return false, fmt.Errorf("trying %q: %w", rule, err)
}
