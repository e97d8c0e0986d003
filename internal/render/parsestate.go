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

// ParseState reads what State wrote. A row that State would write in another way is an error, and so is a repeated
// row or section. Rows and sections may come in any order.
func ParseState(r io.Reader) (state.State, error) {
	lines, err := readLines(r)
	if err != nil {
		return state.State{}, fmt.Errorf("reading state: %w", err)
	}
	p := stateParser{lines: lines, state: state.New(), seen: map[string]bool{}}
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
	lines   []string
	at      int // the next line's index, and so the number of the one just read
	seen    map[string]bool
	section func(text string) (again string, err error)
	state   state.State
}

// next reads a title, or a row with the rules below it.
func (p *stateParser) next() error {
	title := p.lines[p.at]
	p.at++
	text, ok := strings.CutPrefix(title, inSection)
	if !ok {
		return p.start(title)
	}
	for p.at < len(p.lines) && strings.HasPrefix(p.lines[p.at], inRow) {
		text += "\n" + p.lines[p.at]
		p.at++
	}
	if p.section == nil {
		return fmt.Errorf("row %q is in no section", text)
	}
	again, err := p.section(text)
	if err != nil {
		return err
	}
	if again != text {
		return fmt.Errorf("row %q is not written as it should be: %q", text, again)
	}
	return nil
}

func (p *stateParser) start(title string) error {
	if p.seen[title] {
		return fmt.Errorf("section %q is there twice", title)
	}
	p.seen[title] = true
	s := p.state
	switch title {
	case sysctls:
		p.section = rows(s.Sysctls, parseName[state.SysctlName], parseWord, sysctlLine)
	case sets:
		p.section = rows(s.Sets, parseName[state.SetName], parseSet, setLine)
	case entries:
		p.section = rows(s.Entries, state.ParseSetEntry, parseEntry, entryLine)
	case chains:
		p.section = chainRows(s.Chains)
	case jumps:
		p.section = rows(s.Jumps, state.ParseJumpKey, parseJump, jumpLine)
	case links:
		p.section = rows(s.Links, parseName[state.LinkName], parseLink, linkLine)
	case virtualServers:
		p.section = virtualServerRows(s.VirtualServers)
	case realServers:
		p.section = rows(s.RealServers, state.ParseRealServerKey, parseRealServer, realServerLine)
	case addresses:
		p.section = addressRows(s.Addresses)
	default:
		return fmt.Errorf("%q is neither a row nor the title of a section", title)
	}
	return nil
}

// rows reads rows "key = value" into a table.
func rows[K comparable, V any](
	table map[K]V, key func(string) (K, error), value func(string) (V, error), write func(K, V) string,
) func(string) (string, error) {
	return func(text string) (string, error) {
		left, right, ok := strings.Cut(text, equals)
		if !ok || strings.Contains(text, "\n") {
			return "", fmt.Errorf("row %q is not one line with a %q", text, equals)
		}
		k, err := key(left)
		if err != nil {
			return "", err
		}
		v, err := value(right)
		if err != nil {
			return "", fmt.Errorf("row %q: %w", text, err)
		}
		return write(k, v), add(table, k, v)
	}
}

func add[K comparable, V any](table map[K]V, k K, v V) error {
	if _, ok := table[k]; ok {
		return fmt.Errorf("row %v is there twice", k)
	}
	table[k] = v
	return nil
}

func chainRows(table map[state.ChainKey]state.Chain) func(string) (string, error) {
	return func(text string) (string, error) {
		head, rules, _ := strings.Cut(text, "\n")
		k, err := state.ParseChainKey(head)
		if err != nil {
			return "", err
		}
		rules = strings.TrimPrefix(rules, inRow)
		v := state.Chain{Rules: strings.ReplaceAll(rules, "\n"+inRow, "\n")}
		return chainLines(k, v), add(table, k, v)
	}
}

func addressRows(table map[state.Address]state.Binding) func(string) (string, error) {
	return func(text string) (string, error) {
		address, binding, has := strings.Cut(text, equals)
		k, err := state.ParseAddress(address)
		if err != nil {
			return "", err
		}
		var v state.Binding
		if has {
			v, err = state.ParseBinding(binding)
		}
		if err != nil {
			return "", fmt.Errorf("row %q: %w", text, err)
		}
		return addressLine(k, v), add(table, k, v)
	}
}

// virtualServerRows is like rows, but the value's default prefix depends on the key.
func virtualServerRows(table map[state.VirtualServerKey]state.VirtualServer) func(string) (string, error) {
	return func(text string) (string, error) {
		var family state.Family
		key := func(s string) (state.VirtualServerKey, error) {
			k, err := state.ParseVirtualServerKey(s)
			family = k.Family()
			return k, err
		}
		value := func(s string) (state.VirtualServer, error) { return parseVirtualServer(family, s) }
		return rows(table, key, value, virtualServerLine)(text)
	}
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
