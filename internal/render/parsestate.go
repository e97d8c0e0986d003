// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// ParseState reads what State wrote. A row that State would write in another way is an error, and so is a repeated row
// or section. Rows and sections may come in any order.
func ParseState(r io.Reader) (state.State, error) {
	lines, err := readLines(r)
	if err != nil {
		return state.State{}, fmt.Errorf("reading state: %w", err)
	}
	p := stateParser{lines: lines, state: state.New()}
	for p.at < len(p.lines) {
		if err := p.next(); err != nil {
			return state.State{}, fmt.Errorf("line %d: %w", p.at, err)
		}
	}
	return p.state, nil
}

// readLines reads all lines. The last one must end too; otherwise the text was cut.
func readLines(r io.Reader) ([]string, error) {
	text, err := io.ReadAll(r)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	body, ok := strings.CutSuffix(string(text), "\n")
	if !ok {
		return nil, fmt.Errorf("the last line does not end")
	}
	return strings.Split(body, "\n"), nil
}

type stateParser struct {
	lines []string
	at    int // the next line's index, and so the number of the one just read
	seen  []state.Table
	state state.State
}

// next reads a title, or a row with the rules below it.
func (p *stateParser) next() error {
	line := p.lines[p.at]
	p.at++
	text, ok := strings.CutPrefix(line, inSection)
	if !ok {
		return p.start(line)
	}
	for p.at < len(p.lines) && strings.HasPrefix(p.lines[p.at], inRow) {
		text += "\n" + p.lines[p.at]
		p.at++
	}
	if len(p.seen) == 0 {
		return fmt.Errorf("row %q is in no section", text)
	}
	table := p.seen[len(p.seen)-1]
	again, err := sections()[table].read(table, &p.state, text)
	if err != nil {
		return err
	}
	if again != text {
		return fmt.Errorf("row %q is not written as it should be: %q", text, again)
	}
	return nil
}

func (p *stateParser) start(line string) error {
	for t := range state.Tables {
		switch {
		case title(t) != line:
		case slices.Contains(p.seen, t):
			return fmt.Errorf("section %q is there twice", line)
		default:
			p.seen = append(p.seen, t)
			return nil
		}
	}
	return fmt.Errorf("%q is neither a row nor the title of a section", line)
}

// pair reads rows "key = value".
func pair[K, V any](key func(string) (K, error), value func(string) (V, error)) func(string) (K, V, error) {
	return func(text string) (k K, v V, err error) {
		left, right, ok := strings.Cut(text, equals)
		if !ok || strings.Contains(text, "\n") {
			return k, v, fmt.Errorf("row %q is not one line with a %q", text, equals)
		}
		if k, err = key(left); err != nil {
			return k, v, err
		}
		if v, err = value(right); err != nil {
			err = fmt.Errorf("row %q: %w", text, err)
		}
		return k, v, err
	}
}

func add[K comparable, V any](table map[K]V, k K, v V) error {
	if _, ok := table[k]; ok {
		return fmt.Errorf("row %v is there twice", k)
	}
	table[k] = v
	return nil
}

func parseChain(text string) (state.ChainKey, state.Chain, error) {
	head, rules, _ := strings.Cut(text, "\n")
	k, err := state.ParseChainKey(head)
	rules = strings.TrimPrefix(rules, inRow)
	return k, state.Chain{Rules: strings.ReplaceAll(rules, "\n"+inRow, "\n")}, err
}

func parseJumpRow(text string) (state.JumpKey, state.Jump, error) {
	rule, rest, more := strings.Cut(text, "\n")
	k, v, err := pair(state.ParseJumpKey, parseJump)(rule)
	if more {
		v.Rule += "\n" + strings.ReplaceAll(strings.TrimPrefix(rest, inRow), "\n"+inRow, "\n")
	}
	return k, v, err
}

func parseAddressRow(text string) (k state.Address, v state.Binding, err error) {
	address, binding, has := strings.Cut(text, equals)
	if k, err = state.ParseAddress(address); err != nil || !has {
		return k, v, err
	}
	if v, err = state.ParseBinding(binding); err != nil {
		err = fmt.Errorf("row %q: %w", text, err)
	}
	return k, v, err
}

// parseVirtualServerRow is like pair, but the value's default prefix depends on the key.
func parseVirtualServerRow(text string) (k state.VirtualServerKey, v state.VirtualServer, err error) {
	key := func(s string) (state.VirtualServerKey, error) {
		k, err = state.ParseVirtualServerKey(s)
		return k, err
	}
	return pair(key, func(s string) (state.VirtualServer, error) { return parseVirtualServer(k.Family(), s) })(text)
}

// parseWord reads what word wrote.
func parseWord(s string) (string, error) {
	if strings.HasPrefix(s, `"`) {
		return strconv.Unquote(s)
	}
	return s, nil
}

func parseName[N ~string](s string) (N, error) {
	name, err := parseWord(s)
	return N(name), err
}

func parseSet(s string) (state.Set, error) {
	kind, rest, _ := strings.Cut(s, " ")
	kind, err := parseWord(kind)
	if err != nil {
		return state.Set{}, err
	}
	v := state.Set{Type: state.SetType(kind)}
	words := strings.Fields(rest)
	for i := 0; i < len(words); i++ {
		var err error
		switch words[i] {
		case "comment":
			v.Comment = true
		case "marks":
			v.Marks = true
		case "maxelem":
			if i++; i == len(words) {
				return state.Set{}, io.ErrUnexpectedEOF
			}
			v.MaxElem, err = parseNumber[uint32](words[i])
		default:
			v.Family, err = state.ParseFamily(words[i])
		}
		if err != nil {
			return state.Set{}, err
		}
	}
	return v, nil
}

func parseNumber[N uint8 | uint32](s string) (N, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && uint64(N(n)) != n {
		err = strconv.ErrRange
	}
	return N(n), err
}

func parseEntry(s string) (state.Entry, error) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return state.Entry{}, err
	}
	var v state.Entry
	if v.Comment, err = strconv.Unquote(quoted); err != nil {
		return v, err
	}
	rest := s[len(quoted):]
	mark, marked := strings.CutPrefix(rest, " mark ")
	switch {
	case marked:
		v.Mark, err = parseNumber[uint32](mark)
	case rest != "":
		err = fmt.Errorf("%q is not mark and a number", rest)
	}
	return v, err
}

func parseJump(s string) (state.Jump, error) { return state.Jump{Rule: s}, nil }

func parseLink(s string) (state.Link, error) {
	kind, err := parseWord(s)
	return state.Link{Kind: kind}, err
}

func parseVirtualServer(f state.Family, s string) (state.VirtualServer, error) {
	v := state.VirtualServer{Prefix: uint8(f.Bits())}
	err := parsePairs(s, into(&v.Scheduler, parseWord), map[string]func(string) error{
		"flags":   into(&v.Flags, parseFlagList),
		"timeout": into(&v.Timeout, parseNumber[uint32]),
		"prefix":  into(&v.Prefix, parseNumber[uint8]),
		"engine":  into(&v.Engine, parseWord),
	})
	return v, err
}

// parsePairs reads a word, and then pairs of a name and a value.
func parsePairs(s string, first func(string) error, fields map[string]func(string) error) error {
	words := strings.Fields(s)
	if len(words)%2 != 1 {
		return fmt.Errorf("%q is not a word and pairs of words", s)
	}
	if err := first(words[0]); err != nil {
		return err
	}
	for i := 1; i < len(words); i += 2 {
		read, ok := fields[words[i]]
		if !ok {
			return fmt.Errorf("%q is none of %s", words[i], strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if err := read(words[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// into returns a function that parses a value into to.
func into[V any](to *V, parse func(string) (V, error)) func(string) error {
	return func(s string) (err error) {
		*to, err = parse(s)
		return err
	}
}

func parseFlagList(s string) (state.ServerFlags, error) {
	var flags state.ServerFlags
	for name := range strings.SplitSeq(s, ",") {
		known := stateFlags()
		if i := slices.IndexFunc(known, func(f flagName) bool { return f.name == name }); i >= 0 {
			flags |= known[i].bit
			continue
		}
		bits, err := strconv.ParseUint(name, 0, 32)
		if err != nil {
			return 0, fmt.Errorf("flag %q is none that is known, and no number", name)
		}
		flags |= state.ServerFlags(bits)
	}
	return flags, nil
}

func parseRealServer(s string) (state.RealServer, error) {
	var v state.RealServer
	err := parsePairs(s, into(&v.Method, state.ParseForwardMethod), map[string]func(string) error{
		"weight": into(&v.Weight, parseNumber[uint32]),
		"upper":  into(&v.Upper, parseNumber[uint32]),
		"lower":  into(&v.Lower, parseNumber[uint32]),
	})
	return v, err
}
