// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// Text is the pair as a file that ReadConfig reads: kube-proxy's document first, which is all that kube-proxy
// would read of it.
func (p Pair) Text() ([]byte, error) {
	proxy, err := yaml.Marshal(p.Proxy)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", ProxyKind, err)
	}
	own, err := yaml.Marshal(p.Own)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", OwnKind, err)
	}
	return append(append(proxy, "---\n"...), own...), nil
}

// Configz is the pair as /configz shows it: kube-proxy's under the name of its group, as those who read it
// there know it, and ours beside it.
func Configz(p Pair) ([]byte, error) {
	text, err := json.Marshal(map[string]any{"kubeproxy.config.k8s.io": p.Proxy, "kube-ipvs.io": p.Own})
	if err != nil {
		return nil, fmt.Errorf("writing configz: %w", err)
	}
	return text, nil
}
