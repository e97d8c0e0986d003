// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The city has 1,000 Services at any time, and a manifest for each of its quarters. A quarter has some variants with
// different Services, endpoints, ports and affinities.
const (
	quarters   = 20
	variants   = 4
	perQuarter = 50
	plots      = 60 // of which perQuarter are taken
)

// city is many Services that change all at once, and a steady one.
type city struct {
	*rig.Rig
	random *rand.Rand
	blocks [quarters + 1][variants]block
	now    [quarters + 1]int // which variant is there
}

// block is a manifest and its objects.
type block struct {
	text  []byte
	index *cluster.Index
}

func newCity(t *testing.T, r *rig.Rig, random *rand.Rand) *city {
	t.Helper()
	c := &city{Rig: r, random: random}
	for v := range variants {
		for q := range quarters {
			c.blocks[q][v] = newBlock(t, quarter(q, v)...)
		}
		c.blocks[quarters][v] = newBlock(t, steady(v))
	}
	return c
}

func newBlock(t *testing.T, services ...rig.Service) block {
	t.Helper()
	folder, text := t.TempDir(), rig.Manifest(t, services...)
	if err := os.WriteFile(filepath.Join(folder, "block.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return block{text, rig.Load(t, folder)}
}

// quarter is one variant of a quarter's Services. Each variant leaves other plots free.
func quarter(q, v int) []rig.Service {
	var list []rig.Service
	for p := range plots {
		if (p+v*plots/variants)%plots < perQuarter {
			list = append(list, resident(q*plots+p, v))
		}
	}
	return list
}

// resident returns the n-th Service in a variant.
func resident(n, v int) rig.Service {
	teams := [variants][]string{{"pod-a", "pod-b", "pod-d"}, {"pod-b", "pod-c"}, {"pod-c", "pod-d", "pod-a"}, {"pod-d"}}
	s := dual(numbered("service", n), 1000+n, teams[(n+v)%variants]...)
	switch n % 6 {
	case 0, 1, 2:
		s.Addresses = s.Addresses[:1]
	case 3, 4:
		s.Addresses = s.Addresses[1:]
	}
	s.Sticky = (n+v)%25 == 0
	if n%7 == 0 {
		s.Ports[0].Number += uint16(v)
	}
	if n%10 == 0 {
		s.Ports = append(s.Ports, rig.Port{Protocol: state.UDP, Number: 53, Target: target})
	}
	if n%20 == 5 {
		s.Ports[0].NodePort = uint16(30000 + n)
	}
	return s
}

// steady returns a Service whose first endpoint stays whatever else changes.
func steady(v int) rig.Service {
	others := [variants][]string{{}, {"pod-b", "pod-d"}, {"pod-c"}, {"pod-d"}}
	return dual("steady", 5, append([]string{"pod-a"}, others[v]...)...)
}

// move changes every Service to another variant and returns what the kernel should hold then.
func (c *city) move(t *testing.T) state.State {
	t.Helper()
	for b := range c.now {
		c.now[b] = (c.now[b] + 1 + c.random.IntN(variants-1)) % variants
	}
	return c.settle(t)
}

// settle writes all manifests as they are now.
func (c *city) settle(t *testing.T) state.State {
	t.Helper()
	all := cluster.NewIndex()
	for b, v := range c.now {
		add(all, c.blocks[b][v].index)
	}
	want := c.DesiredOf(t, all)
	for b, v := range c.now {
		c.WriteText(t, numbered("block", b), c.blocks[b][v].text)
	}
	return want
}

func add(to, from *cluster.Index) {
	for _, key := range from.Services() {
		o := from.Objects(key)
		to.SetService(o.Service)
		for _, s := range o.Slices {
			to.SetSlice(s)
		}
	}
}
