// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Pages are the pages beside the metrics, as in kube-proxy. nil ones are not served.
type Pages struct {
	Metrics   http.Handler
	Mode      string        // of the proxy, for /proxyMode
	Configz   func() []byte // the present configuration as JSON
	Flagz     func() string // the flags, one per line: name=value
	Version   string
	Started   time.Time
	Profiling bool // serve /debug/pprof/
}

// Mux serves the pages, and /statusz, which lists them.
func (p Pages) Mux() *http.ServeMux {
	mux := http.NewServeMux()
	var paths []string
	page := func(path string, answer http.HandlerFunc) {
		mux.HandleFunc(path, answer)
		paths = append(paths, path)
	}
	// Only shows that the server answers; Health reports the state of the proxy.
	page("/healthz", text("ok"))
	page("/healthz/ping", text("ok"))
	page("/proxyMode", text(p.Mode))
	if p.Metrics != nil {
		page("/metrics", p.Metrics.ServeHTTP)
	}
	if p.Configz != nil {
		page("/configz", p.configz)
	}
	if p.Flagz != nil {
		page("/flagz", p.flagz)
	}
	if p.Profiling {
		page("/debug/pprof/", pprof.Index)
		page("/debug/pprof/cmdline", pprof.Cmdline)
		page("/debug/pprof/profile", pprof.Profile)
		page("/debug/pprof/symbol", pprof.Symbol)
		page("/debug/pprof/trace", pprof.Trace)
	}
	paths = append(paths, "/statusz")
	slices.Sort(paths)
	mux.HandleFunc("/statusz", func(w http.ResponseWriter, _ *http.Request) { write(w, p.status(paths)) })
	return mux
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { write(w, s) }
}

func write(w http.ResponseWriter, s string) {
	send(w, http.StatusOK, "text/plain; charset=utf-8", []byte(s))
}

func send(w http.ResponseWriter, code int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client may be gone
}

func (p Pages) configz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-cache, private")
	send(w, http.StatusOK, "application/json", p.Configz())
}

// warning begins the pages for humans.
const warning = "\nkube-ipvs %s\nWarning: This endpoint is not meant to be machine parseable, " +
	"has no formatting compatibility guarantees and is for debugging purposes only.\n\n"

func (p Pages) flagz(w http.ResponseWriter, _ *http.Request) {
	write(w, fmt.Sprintf(warning, "flags")+p.Flagz())
}

func (p Pages) status(paths []string) string {
	up := time.Since(p.Started).Truncate(time.Second)
	return fmt.Sprintf(warning, "statusz") +
		fmt.Sprintf("Started: %s\n", p.Started.UTC().Format(time.RFC3339)) +
		fmt.Sprintf("Up: %v\n", up) +
		fmt.Sprintf("Go version: %s\n", runtime.Version()) +
		fmt.Sprintf("Binary version: %s\n", p.Version) +
		fmt.Sprintf("Paths: %s\n", strings.Join(paths, " "))
}
