// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
)

func first() netip.Addr  { return control.Host().Addresses[0].Addr() }
func second() netip.Addr { return control.Host().Addresses[1].Addr() }

func newPlane(t *testing.T) *control.Plane {
	t.Helper()
	w, err := world.New(world.Topology{Outside: []world.Outside{control.Host()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	p, err := control.New(t.Context(), w.Host("control"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func serve(t *testing.T, p *control.Plane, at netip.Addr) *control.Server {
	t.Helper()
	begin := time.Now()
	s, err := p.Serve(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the API server at %v was ready after %v", at, time.Since(begin).Round(time.Millisecond))
	return s
}

func client(t *testing.T, p *control.Plane, s *control.Server, who control.Identity) *kubernetes.Clientset {
	t.Helper()
	c, err := p.Client(s.Address, who)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// must fails the test if there was an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func service(name string) *corev1.Service {
	dual := corev1.IPFamilyPolicyRequireDualStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, IPFamilyPolicy: &dual},
	}
}

// mayList makes a service account that may list and watch Services and nothing else.
func mayList(t *testing.T, admin kubernetes.Interface) {
	t.Helper()
	ctx, name := t.Context(), metav1.ObjectMeta{Namespace: "kube-system", Name: "reader"}
	must[*corev1.ServiceAccount](t)(admin.CoreV1().ServiceAccounts("kube-system").
		Create(ctx, &corev1.ServiceAccount{ObjectMeta: name}, metav1.CreateOptions{}))
	rules := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"list", "watch"}}}
	must[*rbacv1.ClusterRole](t)(admin.RbacV1().ClusterRoles().
		Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Rules: rules}, metav1.CreateOptions{}))
	must[*rbacv1.ClusterRoleBinding](t)(admin.RbacV1().ClusterRoleBindings().
		Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "reader"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "kube-system", Name: "reader"}},
		}, metav1.CreateOptions{}))
}

func TestAControlPlaneIsARealOne(t *testing.T) {
	p := newPlane(t)
	one := serve(t, p, first())
	admin := client(t, p, one, p.Admin())
	made := must[*corev1.Service](t)(admin.CoreV1().Services("default").Create(t.Context(), service("web"), metav1.CreateOptions{}))
	if n := len(made.Spec.ClusterIPs); n != 2 {
		t.Errorf("the Service has %d cluster IPs, want one of each family", n)
	}
	mayList(t, admin)
	reader := client(t, p, one, p.Account(t.Context(), admin, "kube-system", "reader"))

	t.Run("a service account may do what its role says and nothing else", func(t *testing.T) { isLimited(t, p, reader) })
	t.Run("what is stored past it is there", func(t *testing.T) {
		stored := made.DeepCopy()
		stored.Name, stored.ResourceVersion = "stored", ""
		if err := p.Store(t.Context(), []runtime.Object{stored}); err != nil {
			t.Fatal(err)
		}
		got := must[*corev1.Service](t)(admin.CoreV1().Services("default").Get(t.Context(), "stored", metav1.GetOptions{}))
		if diff := cmp.Diff(made.Spec, got.Spec); diff != "" {
			t.Errorf("the API server returns (-want +got):\n%s", diff)
		}
		must[struct{}](t)(struct{}{}, admin.CoreV1().Services("default").Delete(t.Context(), "stored", metav1.DeleteOptions{}))
	})
	t.Run("a second API server returns the same", func(t *testing.T) {
		two := serve(t, p, second())
		must[*corev1.Service](t)(client(t, p, two, p.Admin()).CoreV1().Services("default").Get(t.Context(), "web", metav1.GetOptions{}))
		if err := two.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is in etcd survives the death of an API server, and its history a compaction does not", func(t *testing.T) {
		one.Kill()
		if err := p.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		again := client(t, p, serve(t, p, first()), p.Admin())
		options := metav1.ListOptions{ResourceVersion: made.ResourceVersion}
		w, err := again.CoreV1().Services("default").Watch(t.Context(), options)
		if err == nil {
			defer w.Stop()
			err = apierrors.FromObject((<-w.ResultChan()).Object)
		}
		if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			t.Errorf("a watch from before the compaction: %v, want that it is gone", err)
		}
	})
}

// isLimited checks that the service account of mayList may list Services and nothing else.
func isLimited(t *testing.T, p *control.Plane, reader kubernetes.Interface) {
	t.Helper()
	list := must[*corev1.ServiceList](t)(reader.CoreV1().Services("").List(t.Context(), metav1.ListOptions{}))
	if n := len(list.Items); n != 2 { // one is the API server's own
		t.Errorf("the reader sees %d Services, want 2", n)
	}
	if _, err := reader.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the reader lists Nodes: %v, want that it is forbidden", err)
	}
	// A readiness request carries no user.
	requests := slices.DeleteFunc(must[[]control.Request](t)(p.Requests()), func(r control.Request) bool { return r.User == "" })
	const user = "system:serviceaccount:kube-system:reader"
	want := []control.Request{
		{User: user, Verb: "list", Path: "/api/v1/services", Resource: "services", Code: 200},
		{User: user, Verb: "list", Path: "/api/v1/nodes", Resource: "nodes", Code: 403},
	}
	if diff := cmp.Diff(want, requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestAPlaneThatCannotStartSaysWhy(t *testing.T) {
	t.Setenv("UPSTREAM", t.TempDir())
	if _, err := control.New(context.Background(), nil); err == nil {
		t.Error("a plane without programs was made")
	}
}
