// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

var update = flag.Bool("update", false, "rewrite the expectations of testdata/*.txtar")

// script is one file of testdata: manifests (*.yaml) of a Service and its slices, a node, perhaps a config, and the
// expected rows. Slices in elsewhere.yaml are other Services'. A script without manifests tests the base.
type script struct {
	archive *txtar.Archive
	objects plan.Objects
	census  *plan.Census[string]
	node    plan.Node
	config  config.Config
}

func (s script) run() plan.Fragment {
	if s.objects.Service == nil {
		return plan.Base(s.config)
	}
	return plan.Service(s.objects, s.node, s.config)
}

func TestScripts(t *testing.T) {
	for name, s := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			f := s.run()
			got := text(f)
			checkInvariants(t, f)
			if *update {
				s.update(t, name, got)
				return
			}
			if diff := cmp.Diff(s.want(), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", bytes.TrimSpace(s.archive.Comment), diff)
			}
		})
	}
}

func (s script) want() string {
	for _, f := range s.archive.Files {
		if f.Name == "want" {
			return string(f.Data)
		}
	}
	return ""
}

func (s script) update(t *testing.T, name, got string) {
	files := s.archive.Files
	if n := len(files); n > 0 && files[n-1].Name == "want" {
		files = files[:n-1]
	}
	s.archive.Files = append(files, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(filepath.Join("testdata", name+".txtar"), txtar.Format(s.archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func scripts(t testing.TB) map[string]script {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	all := map[string]script{}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s := script{archive: archive, census: plan.NewCensus[string](), config: config.Default()}
		for _, f := range archive.Files {
			s.read(t, path, f)
		}
		s.objects.Present = s.census.Of(s.objects.Service)
		if err := s.config.Validate(); err != nil {
			t.Fatalf("%s: config: %v", path, err)
		}
		all[strings.TrimSuffix(filepath.Base(path), ".txtar")] = s
	}
	return all
}

func (s *script) read(t testing.TB, path string, f txtar.File) {
	switch {
	case f.Name == "node":
		unmarshal(t, path, f.Data, &s.node)
	case f.Name == "config":
		s.config = readConfig(t, path, f.Data)
	case strings.HasSuffix(f.Name, ".yaml"):
		for doc := range strings.SplitSeq(string(f.Data), "\n---\n") {
			s.readObject(t, path, []byte(doc), f.Name == "elsewhere.yaml")
		}
	case f.Name != "want":
		t.Fatalf("%s: what is %s?", path, f.Name)
	}
}

func (s *script) readObject(t testing.TB, path string, doc []byte, elsewhere bool) {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &meta); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	switch meta.Kind {
	case "Service":
		s.objects.Service = &corev1.Service{}
		unmarshal(t, path, doc, s.objects.Service)
	case "EndpointSlice":
		slice := &discoveryv1.EndpointSlice{}
		unmarshal(t, path, doc, slice)
		s.census.Move(nil, []*discoveryv1.EndpointSlice{slice})
		if !elsewhere {
			s.objects.Slices = append(s.objects.Slices, slice)
		}
	default:
		t.Fatalf("%s: kind %q", path, meta.Kind)
	}
}

// readConfig reads the fields that a script changes from their defaults.
func readConfig(t testing.TB, path string, data []byte) config.Config {
	c := config.Default()
	var in struct {
		Scheduler                *string
		MasqueradeBit            *uint8
		MasqueradeAll, StrictARP bool
		CIDRs, NodePortAddresses []netip.Prefix
		Bridge, InterfacePrefix  string
		Kernel                   string

		Schedulers                                        []string
		ServiceCIDRs, ExcludeCIDRs, ExternalIPCIDRs       []netip.Prefix
		NodePortPrimary, NodePortSourceRanges, AnswerPing bool
		RemoteHairpins                                    bool
		LocalhostNodePorts, IgnoreExternalIPs             bool
		NoNetmap, NFTables                                bool
		VIPBinding                                        config.VIPBinding
		Healthz                                           *netip.AddrPort
	}
	unmarshal(t, path, data, &in)
	if in.Scheduler != nil {
		c.Scheduler = *in.Scheduler
	}
	if in.MasqueradeBit != nil {
		c.MasqueradeBit = *in.MasqueradeBit
	}
	c.MasqueradeAll, c.StrictARP, c.NodePortAddresses = in.MasqueradeAll, in.StrictARP, in.NodePortAddresses
	c.Schedulers, c.ServiceCIDRs, c.ExcludeCIDRs = in.Schedulers, in.ServiceCIDRs, in.ExcludeCIDRs
	c.ExternalIPCIDRs = in.ExternalIPCIDRs
	c.RemoteHairpins = in.RemoteHairpins
	if in.Healthz != nil {
		c.Serving.Healthz = *in.Healthz
	}
	if in.VIPBinding != "" {
		c.VIPBinding = in.VIPBinding
	}
	c.LocalhostNodePorts, c.IgnoreExternalIPs = in.LocalhostNodePorts, in.IgnoreExternalIPs
	c.NodePortPrimary, c.NodePortSourceRanges, c.AnswerPing = in.NodePortPrimary, in.NodePortSourceRanges, in.AnswerPing
	switch {
	case in.CIDRs != nil:
		c.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: in.CIDRs}
	case in.Bridge != "":
		c.LocalDetector = config.LocalDetector{Kind: config.DetectBridge, Interface: in.Bridge}
	case in.InterfacePrefix != "":
		c.LocalDetector = config.LocalDetector{Kind: config.DetectPrefix, Interface: in.InterfacePrefix}
	}
	if in.Kernel != "" {
		k, err := config.ParseKernel(in.Kernel)
		if err != nil {
			t.Fatal(err)
		}
		c.Kernel = k
	}
	c.Kernel.NoNetmap = in.NoNetmap
	if in.NFTables {
		c.Firewall = state.OnNFTables
	}
	return c
}

func unmarshal(t testing.TB, path string, data []byte, into any) {
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
