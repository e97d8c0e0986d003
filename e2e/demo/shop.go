// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// service is what the demo needs to know of a Service: it has one port.
type service struct {
	protocol  state.Protocol
	port      uint16
	nodePort  uint16
	vips      map[state.Family]netip.Addr
	endpoints []netip.AddrPort
}

// vip is the Service's address for clients in the cluster.
func (s service) vip(f state.Family) netip.AddrPort { return netip.AddrPortFrom(s.vips[f], s.port) }

// shop is the Services of a folder of manifests, by namespace/name.
type shop map[string]*service

// readShop reads all YAML files of a folder, without its subfolders. It does not use kube-ipvs's reader, as the demo
// checks what kube-ipvs reads.
func readShop(folder string) (shop, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("find manifests in %s: there are none", folder)
	}
	s := shop{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		if err := s.read(text); err != nil {
			return nil, fmt.Errorf("read manifests of %s: %w", f, err)
		}
	}
	return s, nil
}

// read reads the documents of a file.
func (s shop) read(text []byte) error {
	for _, document := range bytes.Split(text, []byte("\n---")) {
		if err := s.readObject(document); err != nil {
			return err
		}
	}
	return nil
}

// readObject reads one object, or a list of them as kubectl prints it. It ignores other kinds.
func (s shop) readObject(text []byte) error {
	var object struct {
		Kind  string                 `json:"kind"`
		Items []runtime.RawExtension `json:"items"`
	}
	err := yaml.Unmarshal(text, &object)
	if err != nil {
		return err
	}
	switch object.Kind {
	case "List":
		for _, item := range object.Items {
			if err := s.readObject(item.Raw); err != nil {
				return err
			}
		}
	case "Service":
		err = s.readService(text)
	case "EndpointSlice":
		err = s.readSlice(text)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", object.Kind, err)
	}
	return nil
}

// of returns the Service of a name and makes it if it is new: its slices may come first.
func (s shop) of(namespace, name string) *service {
	key := namespace + "/" + name
	if s[key] == nil {
		s[key] = &service{vips: map[state.Family]netip.Addr{}}
	}
	return s[key]
}

func (s shop) readService(document []byte) error {
	var object corev1.Service
	if err := yaml.UnmarshalStrict(document, &object); err != nil {
		return err
	}
	if len(object.Spec.Ports) != 1 {
		return fmt.Errorf("%s has %d ports, want one", object.Name, len(object.Spec.Ports))
	}
	port := object.Spec.Ports[0]
	protocol := state.TCP
	if port.Protocol != "" {
		var err error
		if protocol, err = state.ParseProtocol(string(port.Protocol)); err != nil {
			return err
		}
	}
	svc := s.of(object.Namespace, object.Name)
	svc.protocol, svc.port, svc.nodePort = protocol, uint16(port.Port), uint16(port.NodePort)
	for _, text := range object.Spec.ClusterIPs {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		svc.vips[state.FamilyOf(a)] = a
	}
	return nil
}

func (s shop) readSlice(document []byte) error {
	var object discoveryv1.EndpointSlice
	if err := yaml.UnmarshalStrict(document, &object); err != nil {
		return err
	}
	if len(object.Ports) != 1 || object.Ports[0].Port == nil {
		return fmt.Errorf("%s has not one port with a number", object.Name)
	}
	svc := s.of(object.Namespace, object.Labels[discoveryv1.LabelServiceName])
	for _, e := range object.Endpoints {
		for _, text := range e.Addresses {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return err
			}
			svc.endpoints = append(svc.endpoints, netip.AddrPortFrom(a, uint16(*object.Ports[0].Port)))
		}
	}
	return nil
}
