// SPDX-License-Identifier: Apache-2.0

// Package control is a real control plane on a host of a world: etcd and one or more API servers, with certificates,
// enforced roles, and an audit log. They can be stopped, killed and started again, also at another address, and etcd
// can be compacted.
//
// There is no kubelet and no controller: the user writes Nodes, endpoints and whatever else those would write.
package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
)

const (
	// binariesEnv names the folder of the programs. Building them in user-mode Linux would take an hour.
	binariesEnv = "UPSTREAM"
	// patience is how long a program may take to start.
	patience = 2 * time.Minute
	// lastLines is how much of a log an error shows.
	lastLines = 20
)

const (
	// serviceNetworks are the ranges of cluster IPs.
	serviceNetworks = "10.96.0.0/16,fd00:10:96::/112"
	// securePort is where every API server listens.
	securePort = 6443
)

// Host returns a host for the control plane in a topology: an API server can be at each of its addresses.
func Host() world.Outside {
	h := world.Outside{Name: "control"}
	for _, text := range []string{"192.0.2.10/24", "192.0.2.11/24", "2001:db8:1::10/64"} {
		h.Addresses = append(h.Addresses, netip.MustParsePrefix(text))
	}
	return h
}

// Plane is etcd, and what all its API servers share.
type Plane struct {
	host     *world.Host
	folder   string
	binaries string
	trust    *authority
	// adminToken is a secret.
	adminToken string
	etcd       *world.Program
	audits     []string
	programs   []*world.Program
	settings   []string // of the environment of all programs
}

// New starts etcd on a host, with its files in memory. The settings are for the environment of etcd and of all API
// servers.
func New(ctx context.Context, host *world.Host, settings ...string) (*Plane, error) {
	p := &Plane{host: host, settings: settings}
	err := p.open(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a control plane: %w", err), p.Close())
	}
	return p, nil
}

func (p *Plane) open(ctx context.Context) (err error) {
	if p.binaries, err = binaries(); err != nil {
		return err
	}
	if p.folder, err = os.MkdirTemp("/dev/shm", "kube-ipvs-control-"); err != nil {
		return err
	}
	if p.trust, err = newAuthority(); err != nil {
		return err
	}
	p.adminToken = rand.Text()
	if err := p.writeFiles(); err != nil {
		return err
	}
	return p.startEtcd(ctx)
}

// Binary returns the path of one of the programs that are built from upstream sources.
func Binary(name string) (string, error) {
	folder, err := binaries()
	return filepath.Join(folder, name), err
}

func binaries() (string, error) {
	folder := os.Getenv(binariesEnv)
	if folder == "" {
		return "", fmt.Errorf("%s does not name the folder of etcd and the API server: run this with make e2e, or with make cluster-test PKG=./e2e/cluster",
			binariesEnv)
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-proxy"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			return "", fmt.Errorf("find %s, which make e2e builds: %w", name, err)
		}
	}
	return folder, nil
}

// Close ends all programs and removes all files.
func (p *Plane) Close() error {
	for _, program := range p.programs {
		program.Kill()
	}
	if p.folder == "" {
		return nil
	}
	return os.RemoveAll(p.folder)
}

// launch starts a program that ends with the plane, if not before.
func (p *Plane) launch(argv ...string) (*world.Program, error) {
	argv[0] = filepath.Join(p.binaries, argv[0])
	program, err := p.host.LaunchWith(p.folder, p.settings, argv...)
	if err != nil {
		return nil, err
	}
	p.programs = append(p.programs, program)
	return program, nil
}

// file returns the path of one of the plane's files.
func (p *Plane) file(name string) string { return filepath.Join(p.folder, name) }

// writeFiles writes what is the same for all API servers.
func (p *Plane) writeFiles() error {
	files := map[string][]byte{"audit-policy.yaml": []byte(auditPolicy), "ca.crt": p.trust.certificate, tokensName: p.adminLine()}
	server, err := p.trust.issue(serverName())
	if err != nil {
		return err
	}
	files["server.crt"], files["server.key"] = server.certificate, server.key
	tokens, err := newKey()
	if err != nil {
		return err
	}
	if files["tokens.key"], err = privatePEM(tokens); err != nil {
		return err
	}
	if files["tokens.pub"], err = publicPEM(tokens); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(p.file(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// await asks until there is an answer or the program has ended.
func await(ctx context.Context, program *world.Program, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-program.Ended():
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
			continue
		}
		return fmt.Errorf("wait until %s is ready: %w", filepath.Base(program.Log), errors.Join(err, program.Alive(),
			errors.New(program.LastWords(lastLines))))
	}
}

// Server is an API server.
type Server struct {
	*world.Program
	// Address is where it listens.
	Address netip.AddrPort
}

// NoStreamingLists is a flag that makes an API server like older ones: clients have to list objects.
const NoStreamingLists = "--feature-gates=WatchList=false"

// Serve starts an API server at an address of the host, and waits until it is ready.
func (p *Plane) Serve(ctx context.Context, at netip.Addr, flags ...string) (*Server, error) {
	audit := p.file(fmt.Sprintf("audit-%d.log", len(p.audits)))
	program, err := p.launch(slices.Concat([]string{"kube-apiserver"}, p.serverFlags(at, audit), flags)...)
	if err != nil {
		return nil, err
	}
	p.audits = append(p.audits, audit)
	s := &Server{Program: program, Address: netip.AddrPortFrom(at, securePort)}
	admin, err := p.Client(s.Address, p.Admin())
	if err != nil {
		return nil, err
	}
	return s, await(ctx, program, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return admin.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

func (p *Plane) serverFlags(at netip.Addr, audit string) []string {
	return []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=" + at.String(), "--advertise-address=" + at.String(), fmt.Sprintf("--secure-port=%d", securePort),
		"--tls-cert-file=" + p.file("server.crt"), "--tls-private-key-file=" + p.file("server.key"),
		"--client-ca-file=" + p.file("ca.crt"), "--token-auth-file=" + p.file(tokensName),
		"--service-account-issuer=" + issuer,
		"--service-account-signing-key-file=" + p.file("tokens.key"), "--service-account-key-file=" + p.file("tokens.pub"),
		"--authorization-mode=RBAC",
		"--service-cluster-ip-range=" + serviceNetworks,
		"--audit-policy-file=" + p.file("audit-policy.yaml"), "--audit-log-path=" + audit,
		"--etcd-compaction-interval=0", // the test compacts
		"--profiling=false",
	}
}

// Stop ends an API server with SIGTERM, and waits until it has ended.
func (s *Server) Stop() error {
	if err := s.Program.Stop(patience); err != nil {
		return fmt.Errorf("stop the API server at %v: %w: %s", s.Address, err, s.LastWords(lastLines))
	}
	return nil
}
