// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

const (
	maxScheduler = 15 // IP_VS_SCHEDNAME_MAXLEN, without the final NUL
	maxInterface = 15 // IFNAMSIZ, without the final NUL

	// maxTimeout keeps IPVS' timeouts, in ticks of at most 1/1000 s, far from
	// the end of a 32-bit number.
	maxTimeout = 10 * 24 * time.Hour
)

// Validate returns what is wrong with c, all of it, by name of the field.
func (c Config) Validate() error {
	return errors.Join(
		validateWord("Scheduler", c.Scheduler, maxScheduler),
		c.validateBit(),
		c.LocalDetector.validate(),
		c.validatePeriods(),
		validateCIDRs("NodePortAddresses", c.NodePortAddresses),
		validateCIDRs("ServiceCIDRs", c.ServiceCIDRs),
		validateCIDRs("ExcludeCIDRs", c.ExcludeCIDRs),
		c.NodePortRange.validate(),
		c.validateAPIServers(),
	)
}

func (c Config) validateBit() error {
	if c.MasqueradeBit > 31 {
		return fmt.Errorf("MasqueradeBit: %d is not in 0..31", c.MasqueradeBit)
	}
	return nil
}

func (c Config) validateAPIServers() error {
	var errs []error
	for i, a := range c.APIServers {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			errs = append(errs, fmt.Errorf("APIServers[%d]: %v is not an address without a zone", i, a))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validatePeriods() error {
	var errs []error
	if c.SyncPeriod <= 0 {
		errs = append(errs, fmt.Errorf("SyncPeriod: %v is not above 0", c.SyncPeriod))
	}
	if c.DrainTimeout < 0 {
		errs = append(errs, fmt.Errorf("DrainTimeout: %v is below 0", c.DrainTimeout))
	}
	for _, t := range []struct {
		field   string
		timeout time.Duration
	}{{"TCPTimeout", c.TCPTimeout}, {"TCPFinTimeout", c.TCPFinTimeout}, {"UDPTimeout", c.UDPTimeout}} {
		if t.timeout < 0 || t.timeout > maxTimeout || t.timeout%time.Second != 0 {
			errs = append(errs, fmt.Errorf("%s: %v is not a number of seconds from 0 to %v", t.field, t.timeout, maxTimeout))
		}
	}
	return errors.Join(errs...)
}

// validate leaves room for masquerade: 1,024 ports at least.
func (r PortRange) validate() error {
	const room = 1024
	switch {
	case r.First > r.Last || (r.First == 0) != (r.Last == 0):
		return fmt.Errorf("NodePortRange: %d-%d is no range", r.First, r.Last)
	case r.First != 0 && r.First < 2*room && r.Last > 65535-room:
		return fmt.Errorf("NodePortRange: %d-%d leaves no %d other ports", r.First, r.Last, room)
	}
	return nil
}

func (d LocalDetector) validate() error {
	switch d.Kind {
	case DetectNone, DetectNodeCIDR:
		return nil
	case DetectCIDR:
		return d.validateCIDRs()
	case DetectBridge:
		return validateWord("LocalDetector.Interface", d.Interface, maxInterface)
	case DetectPrefix: // the rule says "PREFIX+", of the same greatest length
		return validateWord("LocalDetector.Interface", d.Interface, maxInterface-1)
	}
	return fmt.Errorf("LocalDetector.Kind: %d is not known", d.Kind)
}

// validateCIDRs asks for one CIDR of a family at most: a rule can't say "not
// in this one and not in that one".
func (d LocalDetector) validateCIDRs() error {
	seen := map[bool]bool{}
	for i, p := range d.CIDRs {
		if p.IsValid() && seen[p.Addr().Is4()] {
			return fmt.Errorf("LocalDetector.CIDRs[%d]: %v is the second one of its family", i, p)
		}
		seen[p.Addr().Is4()] = true
	}
	return validateCIDRs("LocalDetector.CIDRs", d.CIDRs)
}

func validateCIDRs(field string, cidrs []netip.Prefix) error {
	var errs []error
	for i, p := range cidrs {
		switch {
		case !p.IsValid():
			errs = append(errs, fmt.Errorf("%s[%d]: not a CIDR", field, i))
		case p.Addr().Is4In6():
			errs = append(errs, fmt.Errorf("%s[%d]: %v is an IPv4 network in IPv6 form", field, i, p))
		}
	}
	return errors.Join(errs...)
}

// validateWord keeps names that end up in rules and kernel messages to
// characters that need no quotes there.
func validateWord(field, s string, longest int) error {
	const known = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:"
	switch {
	case s == "":
		return fmt.Errorf("%s: empty", field)
	case len(s) > longest:
		return fmt.Errorf("%s: %q is longer than %d bytes", field, s, longest)
	case strings.Trim(s, known) != "" || s[0] == '-':
		return fmt.Errorf("%s: %q is not a name", field, s)
	}
	return nil
}
