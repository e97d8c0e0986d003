// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// service is what is counted of one Service.
type service struct {
	reasons []state.Reason // why parts of it are left out, each once
	noLocal [2]lacking     // IPv4, IPv6
}

// lacking are the ports that a traffic policy Local leaves without endpoints.
type lacking struct{ internal, external int }

func serviceOf(f state.Fragment) service {
	var s service
	for _, n := range f.Notes {
		if !slices.Contains(s.reasons, n.Reason) {
			s.reasons = append(s.reasons, n.Reason)
		}
	}
	for i, family := range []state.Family{state.IPv4, state.IPv6} {
		s.noLocal[i].internal, s.noLocal[i].external = plan.NoLocal(f, family)
	}
	return s
}

func (s service) plain() bool { return len(s.reasons) == 0 && s.noLocal == [2]lacking{} }

// Received counts a change and notes what a Service is like now.
func (m *Metrics) Received(c reconcile.Change) {
	switch e := c.Event.(type) {
	case reconcile.Upsert:
		m.count(e.Origin)
		m.know(e.Owner, serviceOf(e.Fragment))
	case reconcile.Delete:
		m.count(e.Origin)
		m.know(e.Owner, service{})
	}
	if m.traffic != nil {
		m.traffic.own(c.Owners)
	}
	if c.Due {
		m.wait(c)
	}
}

func (m *Metrics) count(o reconcile.Origin) {
	m.proxy.servicesTotal.Add(float64(o.Services))
	m.proxy.servicesPending.Add(float64(o.Services))
	m.proxy.endpointsTotal.Add(float64(o.Slices))
	m.proxy.endpointsPending.Add(float64(o.Slices))
}

// know keeps only Services of which there is something to say.
func (m *Metrics) know(o desired.Owner, s service) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if s.plain() {
		delete(m.services, o)
		return
	}
	m.services[o] = s
}

func (m *Metrics) wait(c reconcile.Change) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, f := range m.options.Families {
		if !c.Families.Has(f) {
			continue
		}
		m.proxy.lastQueued.WithLabelValues(f.String()).Set(seconds(c.At))
		if w := &m.waiting[index(f)]; w.IsZero() || c.Queued.Before(*w) {
			*w = c.Queued
		}
	}
}

// Acted counts what was written, listed and flushed.
func (m *Metrics) Acted(a reconcile.Act) {
	m.mutex.Lock()
	if m.round.began.IsZero() {
		m.round.began = a.Began
	}
	m.round.families |= a.Families
	m.mutex.Unlock()
	if a.Work.Audit {
		m.audited(a)
		return
	}
	m.wrote(a)
	m.flushed(a)
}

func (m *Metrics) audited(a reconcile.Act) {
	m.own.auditDuration.Observe(a.Took.Seconds())
	if a.Outcome.ObserveErr != nil {
		m.own.audits.WithLabelValues("incomplete").Inc()
	} else {
		m.own.audits.WithLabelValues("complete").Inc()
		m.own.auditTime.Set(seconds(a.Began.Add(a.Took)))
	}
	for t, rows := range a.Drift {
		m.own.drift.WithLabelValues(state.Table(t).String()).Add(float64(rows))
	}
}

func (m *Metrics) wrote(a reconcile.Act) {
	if a.Work.Delta.Len() == 0 {
		return
	}
	m.own.writes.WithLabelValues(string(a.Cause)).Inc()
	verbs, refused := verbs(), a.Outcome.Results.Refused()
	for i, c := range a.Work.Delta.Counts() {
		if c.Sum() == 0 {
			continue
		}
		table := state.Table(i).String()
		for v, rows := range [3]int{c.Add, c.Update, c.Remove} {
			m.own.operations.WithLabelValues(table, verbs[v]).Add(float64(rows))
		}
		m.own.refusals.WithLabelValues(table).Add(float64(refused[i]))
	}
	for _, f := range m.options.Families {
		if a.RulesRefused().Has(f) {
			m.proxy.restoreFailures.WithLabelValues(f.String()).Inc()
		}
	}
}

func (m *Metrics) flushed(a reconcile.Act) {
	for _, f := range m.options.Families {
		if done := a.Outcome.Flushed[index(f)]; done.Took > 0 {
			m.proxy.flushDuration.WithLabelValues(f.String()).Observe(done.Took.Seconds())
			m.proxy.flushedEntries.WithLabelValues(f.String()).Add(float64(done.Entries))
		}
	}
}

// Settled notes how far the kernel is from the wish, and measures what arrived.
func (m *Metrics) Settled(b reconcile.Balance) {
	m.proxy.servicesPending.Set(0)
	m.proxy.endpointsPending.Set(0)
	for _, p := range b.Programmed {
		m.arrived(p, b.At)
	}
	b.Programmed = nil // nothing of it is asked for later

	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, f := range m.options.Families {
		name := f.String()
		if m.round.families.Has(f) {
			m.proxy.syncDuration.WithLabelValues(name).Observe(b.At.Sub(m.round.began).Seconds())
		}
		if b.Of(f).Refused == 0 {
			m.proxy.lastSynced.WithLabelValues(name).Set(seconds(b.At))
		}
	}
	m.round, m.waiting, m.balance = round{}, [2]time.Time{}, b
}

// arrived measures a change. Clocks of two machines may differ: no change takes
// less than no time.
func (m *Metrics) arrived(p reconcile.Programmed, at time.Time) {
	for _, t := range p.Origin.Triggers {
		m.proxy.programming.WithLabelValues(t.Family.String()).Observe(max(0, at.Sub(t.At).Seconds()))
	}
	if p.Origin.Queued.IsZero() {
		return
	}
	for _, f := range m.options.Families {
		if p.Families.Has(f) {
			m.own.changeDuration.WithLabelValues(f.String()).Observe(at.Sub(p.Origin.Queued).Seconds())
		}
	}
}

func index(f state.Family) int {
	if f == state.IPv4 {
		return 0
	}
	return 1
}

// seconds are Prometheus' form of a time.
func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
