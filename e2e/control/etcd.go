// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

const (
	etcdURL     = "http://127.0.0.1:2379"
	etcdPeerURL = "http://127.0.0.1:2380"
)

func (p *Plane) startEtcd(ctx context.Context) (err error) {
	p.etcd, err = p.launch("etcd", "--data-dir="+p.file("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls="+etcdPeerURL, "--initial-advertise-peer-urls="+etcdPeerURL, "--initial-cluster=default="+etcdPeerURL)
	if err != nil {
		return err
	}
	return await(ctx, p.etcd, func(ctx context.Context) error {
		_, err := p.revision(ctx)
		return err
	})
}

// Compact makes etcd forget all but the present: who wants to watch from an earlier revision on is told that it is gone.
func (p *Plane) Compact(ctx context.Context) error {
	revision, err := p.revision(ctx)
	if err != nil {
		return err
	}
	var answer struct{}
	return p.askEtcd(ctx, "/v3/kv/compaction", map[string]any{"revision": revision, "physical": true}, &answer)
}

func (p *Plane) revision(ctx context.Context) (json.Number, error) {
	var answer struct {
		Header struct {
			Revision json.Number `json:"revision"`
		} `json:"header"`
	}
	err := p.askEtcd(ctx, "/v3/maintenance/status", struct{}{}, &answer)
	return answer.Header.Revision, err
}

// askEtcd calls etcd's gateway, which takes and gives JSON.
func (p *Plane) askEtcd(ctx context.Context, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, etcdURL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: p.host.DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("ask etcd for %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask etcd for %s: %s: %s", path, response.Status, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("read what etcd says of %s: %w: %s", path, err, text)
	}
	return nil
}
