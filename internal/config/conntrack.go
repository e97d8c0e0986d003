// SPDX-License-Identifier: Apache-2.0

package config

// maxTracked bounds what a machine of very many processors gives to conntrack: the table of one million
// entries takes some 300 MB once it is full.
const maxTracked = 1 << 20

// Max is for how many connections a machine with that many processors should have room, 0 if that is left as
// the kernel has it. As in kube-proxy the bound is one for what is multiplied, not for an explicit Min.
func (c Conntrack) Max(cores int) int {
	switch scaled := int64(c.MaxPerCore) * int64(cores); {
	case c.MaxPerCore <= 0:
		return 0
	case scaled > maxTracked:
		return maxTracked
	default:
		return max(int(scaled), int(c.Min))
	}
}
