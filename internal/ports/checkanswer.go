// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
)

// answer is what one Service's load balancer is told in one family, whatever path and method it asks with.
type answer struct {
	service   types.NamespacedName
	endpoints atomic.Int64
	healthy   func() bool
}

// body has kube-proxy's keys in kube-proxy's order.
type body struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int64 `json:"localEndpoints"`
	ServiceProxyHealthy bool  `json:"serviceProxyHealthy"`
}

// ServeHTTP tells the true number of endpoints also if the proxy is unhealthy.
func (a *answer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	b := body{LocalEndpoints: a.endpoints.Load(), ServiceProxyHealthy: a.healthy()}
	b.Service.Namespace, b.Service.Name = a.service.Namespace, a.service.Name
	text, err := json.MarshalIndent(b, "", "\t")
	if err != nil {
		http.Error(w, fmt.Sprintf("writing the answer: %v", err), http.StatusInternalServerError)
		return
	}

	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Load-Balancing-Endpoint-Weight", strconv.FormatInt(b.LocalEndpoints, 10))
	if b.LocalEndpoints == 0 || !b.ServiceProxyHealthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(text) // the one who asked may have gone
}
