// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/kube"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/events"
)

// apiServer answers so that all that may be asked is asked: it has no streaming lists, and no objects.
type apiServer struct {
	mutex sync.Mutex
	asked map[string]bool // "group/resource verb"
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// /api/v1/RESOURCE or /apis/GROUP/VERSION/RESOURCE, with namespaces/NAME before some RESOURCEs.
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	group, version, rest := "", path[1], path[2:]
	if path[0] == "apis" {
		group, version, rest = path[1], path[1]+"/"+path[2], path[3:]
	}
	if rest[0] == "namespaces" {
		rest = rest[2:]
	}
	streams := r.URL.Query().Get("sendInitialEvents") != ""
	verb := map[string]string{"GET": "list", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}[r.Method]
	switch watches := r.URL.Query().Get("watch") != ""; {
	case watches:
		verb = "watch"
	case r.Method == "GET" && len(rest) > 1:
		verb = "get"
	}
	s.mutex.Lock()
	s.asked[fmt.Sprintf("%s/%s %s", group, rest[0], verb)] = true
	s.mutex.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case streams:
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422})
	case verb == "watch":
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "List", "apiVersion": version, "metadata": map[string]any{"resourceVersion": "1"}})
	}
}

func (s *apiServer) requests() map[string]bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	all := map[string]bool{}
	for r := range s.asked {
		all[r] = true
	}
	return all
}

type nobody struct{}

func (nobody) Service(types.NamespacedName, *cluster.Objects) {}
func (nobody) Place(cluster.Place)                            {}
func (nobody) Listed(cluster.Extent)                          {}

func TestTheRoleIsWhatIsAskedOfTheAPIServer(t *testing.T) {
	server := &apiServer{asked: map[string]bool{}}
	h := httptest.NewServer(server)
	c, err := kube.Connect(config.Client{Master: h.URL, QPS: -1}, "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	recorder := events.New(c.Events(), "node-1", zap.NewNop())
	recorder.Node(corev1.EventTypeNormal, "Starting", "")
	var work sync.WaitGroup
	work.Go(func() { recorder.Run(ctx) })
	work.Go(func() {
		s := kube.Source{Client: c, Node: "node-1", Log: zap.NewNop()}
		if err := s.Run(ctx, nobody{}); err != nil {
			t.Error(err)
		}
	})
	want := map[string]bool{}
	for _, r := range one[*rbacv1.ClusterRole](t, built(t, "base")).Rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					want[fmt.Sprintf("%s/%s %s", group, resource, verb)] = true
				}
			}
		}
	}
	var got map[string]bool
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got = server.requests(); cmp.Equal(want, got) {
			break
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the role lets do (-), is asked (+):\n%s", d)
	}
	stop()
	work.Wait()
	h.CloseClientConnections()
	h.Close()
}

func TestTheRoleIsBoundToTheAccountOfThePods(t *testing.T) {
	all := built(t, "base")
	binding := one[*rbacv1.ClusterRoleBinding](t, all)
	account := one[*corev1.ServiceAccount](t, all)
	pods := daemonSet(t)
	want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: pods.Spec.Template.Spec.ServiceAccountName, Namespace: pods.Namespace}}
	if !slices.Equal(binding.Subjects, want) || account.Name != want[0].Name || account.Namespace != want[0].Namespace {
		t.Errorf("bound to %v, want %v", binding.Subjects, want)
	}
	if role := one[*rbacv1.ClusterRole](t, all); binding.RoleRef.Name != role.Name || binding.RoleRef.Kind != "ClusterRole" {
		t.Errorf("binds %v, not %s", binding.RoleRef, role.Name)
	}
}
