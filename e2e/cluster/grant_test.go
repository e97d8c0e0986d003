// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	yamlreader "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
)

const (
	// manifest is what operators apply.
	manifest = "../../manifests/base/rbac.yaml"
	// accountSpace and account are the service account of the manifest.
	accountSpace, account = "kube-system", "kube-ipvs"
	// accountUser is the account's name in the log of the API server.
	accountUser = "system:serviceaccount:" + accountSpace + ":" + account
)

// grant makes the service account and roles that are shipped.
func (s *site) grant(ctx context.Context) error {
	objects, err := decodeFile(manifest)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := s.create(ctx, o); err != nil {
			return fmt.Errorf("create what %s says: %w", manifest, err)
		}
	}
	return nil
}

func decodeFile(path string) ([]runtime.Object, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var objects []runtime.Object
	for documents := yamlreader.NewYAMLReader(bufio.NewReader(file)); ; {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("decode %s: %w", path, err)
		}
		objects = append(objects, o)
	}
}

func (s *site) create(ctx context.Context, o runtime.Object) (err error) {
	rbac, options := s.admin.RbacV1(), metav1.CreateOptions{}
	switch o := o.(type) {
	case *corev1.ServiceAccount:
		o.Namespace = accountSpace // which the kustomization sets
		_, err = s.admin.CoreV1().ServiceAccounts(accountSpace).Create(ctx, o, options)
	case *rbacv1.ClusterRole:
		s.rules = append(s.rules, o.Rules...)
		_, err = rbac.ClusterRoles().Create(ctx, o, options)
	case *rbacv1.ClusterRoleBinding:
		_, err = rbac.ClusterRoleBindings().Create(ctx, o, options)
	case *rbacv1.Role:
		s.rules = append(s.rules, o.Rules...)
		_, err = rbac.Roles(o.Namespace).Create(ctx, o, options)
	case *rbacv1.RoleBinding:
		_, err = rbac.RoleBindings(o.Namespace).Create(ctx, o, options)
	default:
		err = fmt.Errorf("a %T is nothing that this test knows", o)
	}
	return err
}

// identity is that of kube-ipvs: the service account with a token in a file, as in a pod.
func (s *site) identity(ctx context.Context) control.Identity {
	return s.plane.Account(ctx, s.admin, accountSpace, account)
}
