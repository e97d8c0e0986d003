// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// maxNotes bounds what one broken object can cost in events and logs.
const maxNotes = 32

// notes collects the notes of a fragment.
type notes struct {
	list []state.Note
	more int
}

func (n *notes) add(r state.Reason, field, format string, args ...any) {
	if len(n.list) == maxNotes {
		n.more++
		return
	}
	n.list = append(n.list, state.Note{Reason: r, Field: field, Message: fmt.Sprintf(format, args...)})
}

func (n *notes) all() []state.Note {
	if n.more == 0 {
		return n.list
	}
	return append(n.list, state.Note{
		Reason: state.TooLong, Message: fmt.Sprintf("%d more of such notes", n.more),
	})
}

// labelProxyName gives a Service to another proxy, whatever its value.
const labelProxyName = "service.kubernetes.io/service-proxy-name"

// skip notes why the whole Service is not for us, if it is not.
func (n *notes) skip(s *corev1.Service) bool {
	before := len(n.list)
	if proxy, ok := s.Labels[labelProxyName]; ok {
		n.add(state.SkippedService, "metadata.labels", "the Service is for the proxy %.64q", proxy)
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		n.add(state.SkippedService, "spec.type", "an ExternalName is for DNS alone")
	}
	switch s.Spec.ClusterIP {
	case corev1.ClusterIPNone:
		n.add(state.SkippedService, "spec.clusterIP", "the Service is headless")
	case "":
		n.add(state.SkippedService, "spec.clusterIP", "the Service has no cluster IP")
	}
	return len(n.list) > before
}
