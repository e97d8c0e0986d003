// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// issuer is the issuer whose tokens the API server trusts.
const issuer = "https://kubernetes.default.svc"

// lifetime is how long a token is good for, in seconds: longer than any test runs.
const lifetime = int64(3600)

// Identity is how a client proves its identity to the API server.
type Identity struct {
	user api.AuthInfo
	err  error
}

// tokensName is the file with the tokens that the API server knows from the start.
const tokensName = "tokens.csv"

// adminLine returns Admin's line of that file.
func (p *Plane) adminLine() []byte {
	return []byte(p.adminToken + `,admin,admin,"system:masters"` + "\n")
}

// Admin may do everything. It has a token: an API server verifies a certificate anew with every request, which is slow.
func (p *Plane) Admin() Identity { return Identity{user: api.AuthInfo{Token: p.adminToken}} }

// User is a user with a certificate, which kubeadm gives to all but pods.
func (p *Plane) User(name string, groups ...string) Identity {
	c, err := p.trust.issue(clientName(name, groups...))
	return Identity{api.AuthInfo{ClientCertificateData: c.certificate, ClientKeyData: c.key}, err}
}

// Account is a service account with a token in a file, as pods have it. The account must exist.
func (p *Plane) Account(ctx context.Context, by kubernetes.Interface, namespace, name string) Identity {
	seconds := lifetime
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := by.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return Identity{err: fmt.Errorf("ask for a token of %s/%s: %w", namespace, name, err)}
	}
	file := p.file("token-" + namespace + "-" + name)
	return Identity{api.AuthInfo{TokenFile: file}, os.WriteFile(file, []byte(answer.Status.Token), 0o600)}
}

// Client returns a client of the API server at an address.
func (p *Plane) Client(at netip.AddrPort, who Identity) (*kubernetes.Clientset, error) {
	c, err := p.Config(at, who)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(c)
}

// Config returns the configuration of a client of the API server at an address. It has no rate limit.
func (p *Plane) Config(at netip.AddrPort, who Identity) (*rest.Config, error) {
	if who.err != nil {
		return nil, who.err
	}
	return &rest.Config{
		Host:            "https://" + at.String(),
		BearerToken:     who.user.Token,
		BearerTokenFile: who.user.TokenFile,
		TLSClientConfig: rest.TLSClientConfig{
			CAData: p.trust.certificate, CertData: who.user.ClientCertificateData, KeyData: who.user.ClientKeyData,
		},
		Dial:           p.host.DialContext,
		QPS:            -1,
		WarningHandler: rest.NoWarnings{},
	}, nil
}

// Kubeconfig writes a kubeconfig, like the one that kubeadm gives to kube-proxy, and returns its path.
func (p *Plane) Kubeconfig(name string, at netip.AddrPort, who Identity) (string, error) {
	if who.err != nil {
		return "", who.err
	}
	c := api.NewConfig()
	c.Clusters["default"] = &api.Cluster{Server: "https://" + at.String(), CertificateAuthority: p.CA()}
	c.AuthInfos["default"] = &who.user
	c.Contexts["default"] = &api.Context{Cluster: "default", AuthInfo: "default"}
	c.CurrentContext = "default"
	path := p.file(name + ".kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		return "", fmt.Errorf("write a kubeconfig for %s: %w", name, err)
	}
	return path, nil
}
