// SPDX-License-Identifier: Apache-2.0

package iptables

import "strings"

// script is the input of one iptables-restore. It commits table by table, each of them at once.
type script struct {
	text  string
	lines []origin
	of    int // how many pieces
}

// origin is where a line of a script comes from: a piece, and the pieces of its table, all by their index.
type origin struct{ piece, from, to int }

// noPiece is the piece of lines that belong to a table as a whole.
const noPiece = -1

// scriptOf writes pieces of which those of a table are next to each other.
func scriptOf(pieces []piece) script {
	s := script{of: len(pieces)}
	var text strings.Builder
	for from, to := 0, 0; from < len(pieces); from = to {
		for to < len(pieces) && pieces[to].table == pieces[from].table {
			to++
		}
		write := func(piece int, lines ...string) {
			for _, line := range lines {
				text.WriteString(line + "\n")
				s.lines = append(s.lines, origin{piece, from, to})
			}
		}
		write(noPiece, "*"+string(pieces[from].table))
		for i := from; i < to; i++ {
			write(i, pieces[i].first...)
		}
		for i := from; i < to; i++ {
			write(i, pieces[i].then...)
		}
		write(noPiece, "COMMIT")
	}
	s.text = text.String()
	return s
}

// at returns where a line comes from, counted from 1. One without a number may be of any table.
func (s script) at(line int) origin {
	if line < 1 || line > len(s.lines) {
		return origin{noPiece, 0, s.of}
	}
	return s.lines[line-1]
}
