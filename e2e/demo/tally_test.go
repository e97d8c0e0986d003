// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
)

func answered(servers map[string]int) (t tally) {
	for name, n := range servers {
		for range n {
			t.count(world.Reply{Server: name}, nil)
		}
	}
	return t
}

func TestBarsShowHowRequestsSpread(t *testing.T) {
	for want, servers := range map[string]map[string]int{
		"":                                 {},
		"pod-a ######################## 7": {"pod-a": 7},
		"pod-a ############ 20  pod-b ############ 20":            {"pod-a": 20, "pod-b": 20},
		"pod-a ######################## 999  pod-b # 1":           {"pod-a": 999, "pod-b": 1},
		"pod-a ######## 14  pod-b ######## 13  pod-d ######## 13": {"pod-a": 14, "pod-b": 13, "pod-d": 13},
	} {
		one := answered(servers)
		if got := one.bars(); got != want {
			t.Errorf("bars of %v are %q, want %q", servers, got, want)
		}
	}
}

func TestEveryEndpointMustAnswerAndNoOtherHost(t *testing.T) {
	for name, c := range map[string]struct {
		servers map[string]int
		want    string
	}{
		"all endpoints":      {map[string]int{"pod-a": 2, "pod-b": 1}, ""},
		"one is missing":     {map[string]int{"pod-a": 2}, "pod-b answered none of 2 requests"},
		"one is no endpoint": {map[string]int{"pod-a": 1, "pod-b": 1, "node-1": 1}, "node-1 answered, which is no endpoint"},
	} {
		one := answered(c.servers)
		one.onlyBy([]string{"pod-a", "pod-b"})
		got := ""
		if one.wrong != nil {
			got = one.wrong.Error()
		}
		if got != c.want {
			t.Errorf("%s: complaint %q, want %q", name, got, c.want)
		}
	}
}

func TestTalliesAddUpAndKeepTheFirstComplaint(t *testing.T) {
	sum := answered(map[string]int{"pod-a": 2})
	first := errors.New("first")
	var more tally
	more.count(world.Reply{}, first)
	more.count(world.Reply{Server: "pod-b"}, nil)
	more.count(world.Reply{}, errors.New("second"))
	sum.add(more)
	if sum.asked != 5 || sum.failed != 2 || sum.servers["pod-a"] != 2 || sum.servers["pod-b"] != 1 || sum.wrong != first {
		t.Errorf("the sum is %+v", sum)
	}
}
