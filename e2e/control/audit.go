// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

// auditPolicy logs all requests but those of the API server itself and of the test.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver", "admin"]
- level: Metadata
`

// Request is one request to an API server, and how it was answered.
type Request struct {
	User, Verb, Path                       string
	Group, Resource, Namespace, ObjectName string
	Code                                   int
}

// event is a request as in the log.
type event struct {
	Stage      string
	Verb       string
	RequestURI string
	User       struct{ Username string }
	ObjectRef  struct {
		APIGroup, Resource, Subresource, Namespace, Name string
	}
	ResponseStatus struct{ Code int }
}

// Requests returns all requests to any of the API servers but the test's. A watch is one as soon as it is answered.
func (p *Plane) Requests() ([]Request, error) {
	var list []Request
	for _, path := range p.audits {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read an audit log: %w", err)
		}
		for line := range bytes.Lines(text) {
			if !bytes.HasSuffix(line, []byte("\n")) {
				break // it is being written
			}
			r, err := parseEvent(line)
			if err != nil {
				return nil, fmt.Errorf("parse a line of %s: %w: %s", path, err, line)
			}
			list = append(list, r)
		}
	}
	return list, nil
}

func parseEvent(line []byte) (Request, error) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return Request{}, err
	}
	resource := e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		resource += "/" + e.ObjectRef.Subresource
	}
	return Request{
		User: e.User.Username, Verb: e.Verb, Path: e.RequestURI,
		Group: e.ObjectRef.APIGroup, Resource: resource, Namespace: e.ObjectRef.Namespace, ObjectName: e.ObjectRef.Name,
		Code: e.ResponseStatus.Code,
	}, nil
}
