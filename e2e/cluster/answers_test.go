// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// awaitPage waits until a page is answered with this status, and returns its text.
func (s *stage) awaitPage(t *testing.T, host, url, want string) string {
	t.Helper()
	var body string
	rig.Until(t, patience, func() error {
		text, err := s.world.Host(host).Run(t.Context(),
			"curl", "--silent", "--show-error", "--cacert", s.plane.CA(), "--write-out", "\n%{http_code}", url)
		if err != nil {
			return err
		}
		at := strings.LastIndex(text, "\n")
		if text[at+1:] != want {
			return fmt.Errorf("%s from %s: %s, want %s", url, host, text, want)
		}
		body = text[:at]
		return nil
	})
	return body
}

func TestANodeAnswersAsItDidWithKubeProxy(t *testing.T) {
	s := newStage(t)
	s.put(t, clusterIP(1, "web", pods("pod-a")...))
	s.startAll(t)
	s.settle(t)
	const healthz, livez = "http://192.0.2.1:10256/healthz", "http://192.0.2.1:10256/livez"

	t.Run("load balancers ask whether a node takes traffic", func(t *testing.T) {
		var body struct {
			LastUpdated, CurrentTime string
			NodeEligible             bool
		}
		text := s.awaitPage(t, "client", healthz, "200")
		if err := json.Unmarshal([]byte(text), &body); err != nil || body.LastUpdated == "" || body.CurrentTime == "" || !body.NodeEligible {
			t.Errorf("/healthz: %v: %s", err, text)
		}
		s.awaitPage(t, "client", livez, "200")
		s.taint(t, "node-1", corev1.Taint{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule})
		s.awaitPage(t, "client", healthz, "503")
		s.awaitPage(t, "client", livez, "200")
		s.taint(t, "node-1")
		s.awaitPage(t, "client", healthz, "200")
	})
	t.Run("dashboards find the metrics they know", func(t *testing.T) {
		text := s.awaitPage(t, "node-1", "http://127.0.0.1:10249/metrics", "200")
		for _, name := range []string{
			"kubeproxy_sync_proxy_rules_duration_seconds_count", "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
			"kubeproxy_network_programming_duration_seconds_count", "kubeproxy_sync_proxy_rules_endpoint_changes_total",
			"kubeproxy_proxy_healthz_total", "rest_client_requests_total",
		} {
			if !strings.Contains(text, "\n"+name) {
				t.Errorf("there is no metric %s", name)
			}
		}
	})
	t.Run("tools ask for the mode and the configuration", func(t *testing.T) {
		if body := s.awaitPage(t, "node-1", "http://127.0.0.1:10249/proxyMode", "200"); body != "ipvs" {
			t.Errorf("/proxyMode: %q", body)
		}
		body := s.awaitPage(t, "node-1", "http://127.0.0.1:10249/configz", "200")
		if !strings.Contains(body, `"kubeproxy.config.k8s.io"`) {
			t.Errorf("/configz: %s", body)
		}
	})
}

// taint gives a node these taints and no others.
func (s *stage) taint(t *testing.T, name string, taints ...corev1.Taint) {
	t.Helper()
	n, err := s.admin.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Spec.Taints = taints
	if _, err := s.admin.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCannotBeServedIsAnEventOfItsService(t *testing.T) {
	s := newStage(t)
	first, second := clusterIP(1, "first", pods("pod-a")...), clusterIP(2, "second", pods("pod-b")...)
	first.Externals = loadBalancer(1, first).Externals
	second.Externals = first.Externals
	s.put(t, first)
	s.put(t, second)
	s.startAll(t)
	rig.Until(t, patience, func() error {
		events, err := s.admin.EventsV1().Events(rig.Namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Regarding.Kind == "Service" && e.Regarding.Name == "second" {
				t.Logf("%s %s: %s (by %s on %s)", e.Type, e.Reason, e.Note, e.ReportingController, e.ReportingInstance)
				return nil
			}
		}
		return fmt.Errorf("none of %d events is about the Service that lost the conflict", len(events.Items))
	})
}
