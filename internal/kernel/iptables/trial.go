// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// trialChain has a rule that is tried, for a moment. A process that is killed then
// leaves it behind, where no packet comes, and the next one removes it as one of ours.
const trialChain = "KUBE-IPVS-TRIAL"

// Takes reports whether the kernel and the tools of a family take a rule in table nat.
// They are asked with one, as tools take more than their kernel, and a module is loaded
// only by who needs it.
func (c *Conn) Takes(ctx context.Context, f state.Family, rule string) (bool, error) {
	text := fmt.Sprintf("*nat\n:%[1]s - [0:0]\n-A %[1]s %[2]s\nCOMMIT\n*nat\n-F %[1]s\n-X %[1]s\nCOMMIT\n", trialChain, rule)
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
