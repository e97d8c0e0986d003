// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

const rounds = 20

func services(t *testing.T, test func(t *testing.T, s script)) {
	for name, s := range scripts(t) {
		if s.objects.Service != nil {
			t.Run(name, func(t *testing.T) { test(t, s) })
		}
	}
}

func TestTheOrderOfSlicesDoesNotMatter(t *testing.T) {
	services(t, func(t *testing.T, s script) {
		want := s.run()
		r := rand.New(rand.NewPCG(1, 2))
		for range rounds {
			shuffle(r, s.objects.Slices)
			if got := s.run(); !reflect.DeepEqual(got, want) {
				t.Fatalf("-want +got:\n%s", cmp.Diff(text(want), text(got)))
			}
		}
	})
}

func TestTheOrderInsideSlicesDoesNotMatterToRows(t *testing.T) {
	services(t, func(t *testing.T, s script) {
		want := s.run()
		want.Notes = nil // they have the index of the endpoint
		r := rand.New(rand.NewPCG(3, 4))
		for range rounds {
			for _, slice := range s.objects.Slices {
				shuffle(r, slice.Endpoints)
				shuffle(r, slice.Ports)
			}
			got := s.run()
			got.Notes = nil
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("-want +got:\n%s", cmp.Diff(text(want), text(got)))
			}
		}
	})
}

func TestTheOrderOfNodeAddressesDoesNotMatter(t *testing.T) {
	services(t, func(t *testing.T, s script) {
		want := s.run()
		s.node.Addresses = append(s.node.Addresses, s.node.Addresses...)
		shuffle(rand.New(rand.NewPCG(5, 6)), s.node.Addresses)
		if got := s.run(); !reflect.DeepEqual(got, want) {
			t.Fatalf("-want +got:\n%s", cmp.Diff(text(want), text(got)))
		}
	})
}

func TestObjectsAreOnlyRead(t *testing.T) {
	services(t, func(t *testing.T, s script) {
		service := s.objects.Service.DeepCopy()
		var slices []*discoveryv1.EndpointSlice
		for _, slice := range s.objects.Slices {
			slices = append(slices, slice.DeepCopy())
		}
		s.run()
		if !reflect.DeepEqual(s.objects, plan.Objects{Service: service, Slices: slices, Present: s.census.Of(service)}) {
			t.Error("the objects changed")
		}
	})
}

func shuffle[T any](r *rand.Rand, list []T) {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}
