// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	client "k8s.io/client-go/tools/metrics"
)

// Lasting counts for as long as the program runs, across changes of its configuration: those changes, and the
// requests to API servers, under the names that every Kubernetes component uses. client-go reports to one place
// only, so there is one Lasting.
type Lasting struct {
	results  *prometheus.CounterVec
	duration *prometheus.HistogramVec
	reloads  *prometheus.CounterVec
}

// Begin returns a Lasting that counts client-go's requests from now on.
func Begin() *Lasting {
	r := &Lasting{
		reloads: factory{subsystem: ownSubsystem}.counters("config_reloads_total",
			"Changes of the configuration file, by result (applied, refused).", "result", "applied", "refused"),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rest_client_requests_total", Help: "Number of HTTP requests, partitioned by status code, method, and host.",
		}, []string{"code", "method", "host"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rest_client_request_duration_seconds", Help: "Request latency in seconds. Broken down by verb, and host.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60},
		}, []string{"verb", "host"}),
	}
	client.Register(client.RegisterOpts{RequestResult: r, RequestLatency: r})
	return r
}

// Reloaded counts a change of the configuration, which was refused if err is not nil.
func (r *Lasting) Reloaded(err error) {
	result := "applied"
	if err != nil {
		result = "refused"
	}
	r.reloads.WithLabelValues(result).Inc()
}

// Increment counts an answer.
func (r *Lasting) Increment(_ context.Context, code, method, host string) {
	r.results.WithLabelValues(code, method, host).Inc()
}

// Observe counts the time until an answer began.
func (r *Lasting) Observe(_ context.Context, verb string, u url.URL, latency time.Duration) {
	r.duration.WithLabelValues(verb, u.Host).Observe(latency.Seconds())
}
