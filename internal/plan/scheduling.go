// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The annotations by which a Service overrides the configuration.
const (
	annotationScheduler    = "kube-ipvs.io/scheduler"
	annotationFlags        = "kube-ipvs.io/scheduler-flags"
	annotationWeights      = "kube-ipvs.io/weights"
	annotationDrainTimeout = "kube-ipvs.io/drain-timeout"
	annotationAffinity     = "kube-ipvs.io/affinity"
)

// scheduler is what kube-ipvs knows of one of the kernel's schedulers.
type scheduler struct {
	fallback, port string            // ipvsadm's names of its flags, if it has any
	always         state.ServerFlags // flags that Services need
	weighted       bool              // weights above 1 count
}

// Schedulers returns the names of all schedulers that Linux has had since 2.4.
func Schedulers() []string {
	return []string{"dh", "fo", "lblc", "lblcr", "lc", "mh", "nq", "ovf", "rr", "sed", "sh", "twos", "wlc", "wrr"}
}

// schedulerOf knows all of Schedulers. Those with a hash get their fallback flag. Without it they keep naming a
// draining endpoint, and its clients are refused until it is gone (kubernetes#138688).
func schedulerOf(name string) scheduler {
	switch name {
	case "sh":
		return scheduler{fallback: "sh-fallback", port: "sh-port", always: state.Sched1, weighted: true}
	case "mh":
		return scheduler{fallback: "mh-fallback", port: "mh-port", always: state.Sched1, weighted: true}
	case "rr", "lc", "dh":
		return scheduler{}
	}
	return scheduler{weighted: true}
}

// scheduling is how connections are spread over the endpoints of a Service.
type scheduling struct {
	name    string
	flags   state.ServerFlags
	weights weights
}

// newScheduling reads the annotations. A mistake in one leaves the configuration's default.
func newScheduling(annotations map[string]string, c config.Config, ns *notes) scheduling {
	s := scheduling{name: c.Scheduler}
	if name, ok := annotations[annotationScheduler]; ok {
		if err := available(name, c); err != nil {
			ns.add(state.InvalidScheduler, field(annotationScheduler), "%v; using %s", err, c.Scheduler)
		} else {
			s.name = name
		}
	}
	known := schedulerOf(s.name)
	s.flags = known.always
	if s.name == "mh" && annotations[annotationFlags] == "" {
		// As in kube-proxy: without it all connections of a client would go to one endpoint.
		s.flags |= state.Sched2
	}
	s.flags |= known.parseFlags(s.name, annotations[annotationFlags], ns)
	s.weights = parseWeights(annotations[annotationWeights], ns)
	if s.weights != (weights{}) && !known.weighted {
		ns.add(state.InvalidScheduler, field(annotationWeights), "the scheduler %s takes no weights", s.name)
		s.weights = weights{}
	}
	return s
}

func available(name string, c config.Config) error {
	if !slices.Contains(Schedulers(), name) {
		return fmt.Errorf("%.64q is no scheduler; there are %s", name, strings.Join(Schedulers(), ", "))
	}
	if len(c.Schedulers) > 0 && !slices.Contains(c.Schedulers, name) {
		return fmt.Errorf("this node's kernel has no scheduler %s", name)
	}
	return nil
}

func field(annotation string) string { return "metadata.annotations[" + annotation + "]" }

func (s scheduler) parseFlags(name, text string, ns *notes) state.ServerFlags {
	var flags state.ServerFlags
	for word := range strings.SplitSeq(text, ",") {
		switch word = strings.TrimSpace(word); word {
		case "":
		case s.fallback:
			flags |= state.Sched1
		case s.port:
			flags |= state.Sched2
		default:
			ns.add(state.InvalidScheduler, field(annotationFlags), "%.64q is no flag of %s", word, name)
		}
	}
	return flags
}

// weights are those of endpoints on this node, in its zone, and elsewhere. Zero weights: all count alike.
type weights struct{ node, zone, other uint32 }

// maxWeight works with every weighted scheduler: mh takes the weights' bits for rounds through its table.
const maxWeight = 65535

// parseWeights reads "node=8,zone=4,other=1". The default is 1.
func parseWeights(text string, ns *notes) weights {
	if strings.TrimSpace(text) == "" {
		return weights{}
	}
	w := weights{1, 1, 1}
	places := map[string]*uint32{"node": &w.node, "zone": &w.zone, "other": &w.other}
	for word := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(word), "=")
		n, err := strconv.ParseUint(number, 10, 32)
		if places[name] == nil || err != nil || n < 1 || n > maxWeight {
			ns.add(state.InvalidScheduler, field(annotationWeights),
				"%.64q is not node, zone or other, =, and a number in 1..%d", word, maxWeight)
			return weights{}
		}
		*places[name] = uint32(n)
	}
	return w
}

func (w weights) of(e endpoint, zone string) uint32 {
	switch {
	case w == weights{}:
		return 1
	case e.local:
		return w.node
	case zone != "" && e.zone == zone:
		return w.zone
	}
	return w.other
}

// maxDrainTimeout is a day. More would be no deadline at all, and a rollout would never end.
const maxDrainTimeout = 24 * time.Hour

// drainTimeout returns the Service's own, if it has one.
func drainTimeout(annotations map[string]string, ns *notes) (time.Duration, bool) {
	text, ok := annotations[annotationDrainTimeout]
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil || d < 0 || d > maxDrainTimeout {
		ns.add(state.InvalidDrainTimeout, field(annotationDrainTimeout), "%.64q is not a time such as 90s, at most %v", text, maxDrainTimeout)
		return 0, false
	}
	return d, true
}
