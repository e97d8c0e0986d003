// SPDX-License-Identifier: Apache-2.0

package iptables

import "strings"

// block is what iptables-restore is told for one row. The lines in first of all
// blocks go before those in then of any: chains are declared before rules go
// to them, and emptied before they are deleted.
type block struct {
	first, then []string
}

// script is the input of iptables-restore for one table, all of which it
// commits at once.
type script struct {
	text   string
	owners []int // of each line after the first: the index of its block
}

func scriptOf(table string, blocks []block) script {
	var s script
	var text strings.Builder
	text.WriteString("*" + table + "\n")
	write := func(owner int, lines []string) {
		for _, line := range lines {
			text.WriteString(line + "\n")
			s.owners = append(s.owners, owner)
		}
	}
	for i, b := range blocks {
		write(i, b.first)
	}
	for i, b := range blocks {
		write(i, b.then)
	}
	text.WriteString("COMMIT\n")
	s.text = text.String()
	return s
}

// owner is the index of the block that the line number is of, counted from 1 as
// iptables-restore does; -1 for one that is of none, such as COMMIT.
func (s script) owner(line int) int {
	if i := line - 2; i >= 0 && i < len(s.owners) {
		return s.owners[i]
	}
	return -1
}
