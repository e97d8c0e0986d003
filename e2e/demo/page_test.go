// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func someResults() []result {
	good := answered(map[string]int{"pod-a": 20, "pod-b": 20})
	noted := good
	noted.note("first")
	noted.note("second")
	bad := tally{asked: 3, failed: 3, wrong: errors.New("no server answered")}
	return []result{
		{"a pod asks", map[state.Family]*tally{state.IPv4: &good, state.IPv6: &noted}},
		{"the node asks", map[state.Family]*tally{state.IPv6: &bad}},
	}
}

func TestAPageIsAligned(t *testing.T) {
	var text strings.Builder
	p := page{w: &text}
	p.done("it is built", 1234*time.Millisecond)
	p.aside("one\ntwo\n")
	for _, r := range someResults() {
		p.step(r)
	}
	p.summary(someResults())
	want := `
  it is built                          1.23 s
    one
    two
  a pod asks                           IPv4  ok  pod-a ############ 20  pod-b ############ 20
                                       IPv6  ok  first
                                                 second
  the node asks                        IPv6  FAILED  
                                                 no server answered
  step                                 IPv4    IPv6    requests  failures
  a pod asks                           ok      ok            80         0
  the node asks                        -       FAILED         3         3
  all                                                        83         3
`
	if got := "\n" + text.String(); got != want {
		t.Errorf("the page is\n%s\nwant\n%s", got, want)
	}
}

func TestColoursChangeNothingElse(t *testing.T) {
	var plain, coloured strings.Builder
	for _, p := range []page{{w: &plain}, {w: &coloured, color: true}} {
		p.heading("Heading")
		for _, r := range someResults() {
			p.step(r)
		}
		p.summary(someResults())
		p.failure(errors.New("over"))
	}
	if strings.Contains(plain.String(), "\x1b") {
		t.Error("a page without colours has escapes")
	}
	bare := coloured.String()
	for _, s := range []style{bold, dim, red, green} {
		bare = strings.ReplaceAll(bare, "\x1b["+string(s)+"m", "")
	}
	if bare = strings.ReplaceAll(bare, "\x1b[0m", ""); bare != plain.String() || bare == coloured.String() {
		t.Errorf("without its escapes the page is\n%s\nwant\n%s", bare, plain.String())
	}
}
