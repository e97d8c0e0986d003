// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strconv"
	"strings"
)

// PortRange is a range of ports, both ends in it. The zero value is empty.
type PortRange struct{ First, Last uint16 }

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// ParsePortRange reads what String writes.
func ParsePortRange(text string) (PortRange, error) {
	first, last, _ := strings.Cut(strings.TrimSpace(text), "-")
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil {
		return PortRange{}, fmt.Errorf("%q is not a range of ports such as 30000-32767", text)
	}
	return PortRange{First: uint16(from), Last: uint16(to)}, nil
}

// validate leaves room for masquerade: 1,024 ports at least.
func (r PortRange) validate(v *Complaints) {
	const field, room = "NodePortRange", 1024
	switch {
	case r.First > r.Last || (r.First == 0) != (r.Last == 0):
		v.Add(field, "%v is no range", r)
	case r.First != 0 && r.First < 2*room && r.Last > 65535-room:
		v.Add(field, "%v leaves no %d other ports", r, room)
	}
}
