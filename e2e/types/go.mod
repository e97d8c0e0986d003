// The types of projects whose files docs/install and manifests have: only for a test, in a module of its own, so that
// building kube-ipvs does not download them.
module github.com/kube-ipvs/kube-ipvs/e2e/types

go 1.26.0

require (
	github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring v0.95.2
	github.com/siderolabs/talos/pkg/machinery v1.12.0
	sigs.k8s.io/cluster-api/api v1.14.2
	sigs.k8s.io/yaml v1.6.0
)
