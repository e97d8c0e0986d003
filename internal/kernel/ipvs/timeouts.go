// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	moby "github.com/moby/ipvs"
)

// Timeouts are how long IPVS keeps an idle connection.
type Timeouts struct {
	TCP, TCPFin, UDP time.Duration
}

// Timeouts reads the timeouts.
func (c *Conn) Timeouts(ctx context.Context) (Timeouts, error) {
	var t Timeouts
	err := c.withMoby(ctx, func(h *moby.Handle) error {
		config, err := h.GetConfig()
		if err == nil {
			t = Timeouts{TCP: config.TimeoutTCP, TCPFin: config.TimeoutTCPFin, UDP: config.TimeoutUDP}
		}
		return err
	})
	if err != nil {
		return Timeouts{}, fmt.Errorf("reading IPVS timeouts: %w", err)
	}
	return t, nil
}

// SetTimeouts sets the timeouts, in whole seconds. One that is 0 stays as it is.
func (c *Conn) SetTimeouts(ctx context.Context, t Timeouts) error {
	config := moby.Config{TimeoutTCP: t.TCP, TimeoutTCPFin: t.TCPFin, TimeoutUDP: t.UDP}
	if err := c.withMoby(ctx, func(h *moby.Handle) error { return h.SetConfig(&config) }); err != nil {
		return fmt.Errorf("setting IPVS timeouts to %+v: %w", t, err)
	}
	return nil
}

// withMoby runs one call of moby/ipvs.
//
// Its handle is made for the call and not in Open, because making the first one
// runs modprobe in any case, and complains on standard error where there is no
// modprobe. A call waits for ever if an answer is lost; closing the handle is
// what ends it, after the three seconds for which it listens at a time.
func (c *Conn) withMoby(ctx context.Context, call func(*moby.Handle) error) error {
	here, err := os.Readlink(namespacePath)
	if err != nil {
		return err
	}
	if here != c.namespace {
		return errors.New("called in another network namespace than the connection was opened in")
	}
	h, err := moby.New("")
	if err != nil {
		return err
	}
	defer h.Close()
	done := make(chan error, 1)
	go func() { done <- call(h) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
