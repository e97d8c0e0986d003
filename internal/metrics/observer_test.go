// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

var (
	web  = desired.Owner{Namespace: "shop", Name: "web"}
	mail = desired.Owner{Namespace: "shop", Name: "mail"}

	ipv4, ipv6 = state.FamiliesOf(state.IPv4), state.FamiliesOf(state.IPv6)
)

// serverKey is a virtual server's, from its text.
func serverKey(t *testing.T, text string) state.VirtualServerKey {
	t.Helper()
	k, err := state.ParseVirtualServerKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestChangesArePendingUntilTheLoopIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := full()
		queued := time.Now()
		time.Sleep(2 * time.Second)
		m.Received(reconcile.Change{
			Event: reconcile.Upsert{Owner: web, Origin: reconcile.Origin{Services: 1, Slices: 3}},
			At:    time.Now(), Queued: queued, Families: ipv4, Due: true,
		})
		m.Received(reconcile.Change{Event: reconcile.Delete{Owner: mail, Origin: reconcile.Origin{Services: 1, Slices: 1}}, At: time.Now(), Queued: time.Now(), Families: ipv4, Due: true})
		taken := time.Now()
		want(t, "pending", m, map[string]float64{
			"kubeproxy_sync_proxy_rules_service_changes_total": 2, "kubeproxy_sync_proxy_rules_service_changes_pending": 2,
			"kubeproxy_sync_proxy_rules_endpoint_changes_total": 4, "kubeproxy_sync_proxy_rules_endpoint_changes_pending": 4,
			"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=IPv4}": seconds(taken),
			"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=IPv6}": 0,
			"kubeipvs_oldest_unprogrammed_change_seconds{ip_family=IPv4}":              2,
			"kubeipvs_oldest_unprogrammed_change_seconds{ip_family=IPv6}":              0,
		})
		m.Acted(reconcile.Act{Cause: reconcile.CauseChange, Families: ipv4, Began: time.Now()})
		time.Sleep(time.Second)
		m.Settled(reconcile.Balance{At: time.Now(), Programmed: []reconcile.Programmed{
			{Families: ipv4, Origin: reconcile.Origin{Queued: queued, Triggers: []reconcile.Trigger{
				{Family: state.IPv4, At: queued.Add(-time.Second)}, {Family: state.IPv6, At: time.Now().Add(time.Hour)},
			}}},
			{Families: ipv6, Origin: reconcile.Origin{}},
		}})
		want(t, "settled", m, map[string]float64{
			"kubeproxy_sync_proxy_rules_service_changes_total": 2, "kubeproxy_sync_proxy_rules_service_changes_pending": 0,
			"kubeproxy_sync_proxy_rules_endpoint_changes_total": 4, "kubeproxy_sync_proxy_rules_endpoint_changes_pending": 0,
			"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=IPv4}":    seconds(time.Now()),
			"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=IPv4}":    1,
			"kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family=IPv4}":      1,
			"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=IPv6}":    0,
			"kubeproxy_network_programming_duration_seconds_sum{ip_family=IPv4}":   4,
			"kubeproxy_network_programming_duration_seconds_count{ip_family=IPv4}": 1,
			"kubeproxy_network_programming_duration_seconds_sum{ip_family=IPv6}":   0,
			"kubeproxy_network_programming_duration_seconds_count{ip_family=IPv6}": 1,
			"kubeipvs_change_duration_seconds_sum{ip_family=IPv4}":                 3,
			"kubeipvs_change_duration_seconds_count{ip_family=IPv6}":               0,
			"kubeipvs_oldest_unprogrammed_change_seconds{ip_family=IPv4}":          0,
		})
	})
}

func TestWhatIsWrittenIsCountedByTableAndVerb(t *testing.T) {
	m := full()
	k := serverKey(t, "TCP 10.96.0.1:80")
	chain := state.ChainKey{Family: state.IPv6, Table: state.NAT, Name: "KUBE-SERVICES"}
	var delta state.Delta
	delta.VirtualServers.Add = []diff.Row[state.VirtualServerKey, state.VirtualServer]{{Key: k}}
	delta.RealServers.Update = []diff.Change[state.RealServerKey, state.RealServer]{{}, {Key: state.RealServerKey{Server: k}}}
	delta.Chains.Remove = []diff.Row[state.ChainKey, state.Chain]{{Key: chain}}
	var results kernel.Results
	results.RealServers.Fail(state.RealServerKey{}, errors.New("refused"))
	results.Chains.Fail(chain, errors.New("refused"))
	m.Acted(reconcile.Act{Cause: reconcile.CauseTime, Work: reconcile.Work{Delta: delta}, Outcome: reconcile.Outcome{
		Results: results, Flushed: [2]reconcile.Flushed{{}, {Entries: 7, Took: time.Second}},
	}, Families: ipv4})
	want(t, "a write", m, map[string]float64{
		"kubeipvs_operations_total{table=virtualServers,verb=add}":                   1,
		"kubeipvs_operations_total{table=virtualServers,verb=update}":                0,
		"kubeipvs_operations_total{table=realServers,verb=update}":                   2,
		"kubeipvs_operations_total{table=chains,verb=remove}":                        1,
		"kubeipvs_operation_errors_total{table=virtualServers}":                      0,
		"kubeipvs_operation_errors_total{table=realServers}":                         1,
		"kubeipvs_operation_errors_total{table=chains}":                              1,
		"kubeipvs_writes_total{cause=time}":                                          1,
		"kubeipvs_writes_total{cause=change}":                                        0,
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=IPv6}": 1,
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=IPv4}": 0,
		"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=IPv6}":       7,
		"kubeproxy_conntrack_reconciler_sync_duration_seconds_sum{ip_family=IPv6}":   1,
		"kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family=IPv4}": 0,
		"kubeipvs_audits_total{result=complete}":                                     0,
	})
}

func TestAuditsAndWhatTheyFound(t *testing.T) {
	m := full()
	began := time.Unix(1000, 0)
	audit := reconcile.Act{Work: reconcile.Work{Audit: true}, Families: state.BothFamilies, Began: began, Took: 2 * time.Second}
	audit.Drift[state.RealServers] = 3
	m.Acted(audit)
	m.Settled(reconcile.Balance{At: began.Add(3 * time.Second)})
	broken := audit
	broken.Drift, broken.Began, broken.Outcome.ObserveErr = [state.Tables]int{}, began.Add(time.Hour), errors.New("no answer")
	m.Acted(broken)
	want(t, "audits", m, map[string]float64{
		"kubeipvs_audits_total{result=complete}":                            1,
		"kubeipvs_audits_total{result=incomplete}":                          1,
		"kubeipvs_audit_duration_seconds_count":                             2,
		"kubeipvs_audit_duration_seconds_sum":                               4,
		"kubeipvs_last_audit_timestamp_seconds":                             1002,
		"kubeipvs_drift_repaired_total{table=realServers}":                  3,
		"kubeipvs_drift_repaired_total{table=entries}":                      0,
		"kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family=IPv4}":   3,
		"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=IPv6}": 1,
	})
}

func TestTheBalanceIsToldAsItWasLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := full()
		now := time.Now()
		b := reconcile.Balance{
			At: now, Draining: 4, Contested: 2, Owners: 11,
			IPv6: reconcile.Trouble{Refused: 5, Since: now.Add(-time.Minute)},
		}
		b.Rows[state.Addresses] = reconcile.Rows{Desired: 7, Present: 6, Refused: 1}
		m.Settled(b)
		time.Sleep(time.Second)
		want(t, "balance", m, map[string]float64{
			"kubeipvs_wished_rows{table=addresses}":                             7,
			"kubeipvs_kernel_rows{table=addresses}":                             6,
			"kubeipvs_refused_rows{table=addresses}":                            1,
			"kubeipvs_refused_rows{table=sets}":                                 0,
			"kubeipvs_draining_real_servers":                                    4,
			"kubeipvs_conflicts":                                                2,
			"kubeipvs_services":                                                 10,
			"kubeipvs_oldest_unprogrammed_change_seconds{ip_family=IPv4}":       0,
			"kubeipvs_oldest_unprogrammed_change_seconds{ip_family=IPv6}":       61,
			"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=IPv4}": seconds(now),
			"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=IPv6}": 0,
		})
	})
}

func TestWhatServicesLackIsCountedAsLongAsTheyDo(t *testing.T) {
	m := full()
	entry := func(set state.SetName, address string, port uint16, comment string) diff.Row[state.SetEntry, state.Entry] {
		return diff.Row[state.SetEntry, state.Entry]{
			Key:   state.SetEntry{Set: set, Address: netip.MustParseAddr(address), Protocol: state.TCP, Port: port},
			Value: state.Entry{Comment: comment},
		}
	}
	f := state.Fragment{
		Entries: []diff.Row[state.SetEntry, state.Entry]{
			entry("KUBE-6-CLUSTER-IP", "fd00::1", 80, "shop/web:http"),
			entry("KUBE-CLUSTER-IP", "10.96.0.1", 80, "shop/web:http"),
			entry("KUBE-NO-LOCAL", "10.96.0.1", 80, "shop/web:http"),
			entry("KUBE-NO-LOCAL", "192.0.2.1", 30080, "shop/web:http"),
			entry("KUBE-NO-LOCAL", "203.0.113.7", 80, "shop/web:http"),
			entry("KUBE-NO-LOCAL", "203.0.113.7", 443, "shop/web:https"),
		},
		Notes: []state.Note{{Reason: state.InvalidPort}, {Reason: state.InvalidPort}, {Reason: state.TooLong}},
	}
	other := state.Fragment{Notes: []state.Note{{Reason: state.InvalidPort}}}
	m.Received(reconcile.Change{Event: reconcile.Upsert{Owner: web, Fragment: f}})
	m.Received(reconcile.Change{Event: reconcile.Upsert{Owner: mail, Fragment: other}})
	counts := func(when string, port, long, internal, external float64) {
		t.Helper()
		want(t, when, m, map[string]float64{
			"kubeipvs_services_with_notes{reason=InvalidPort}":                                            port,
			"kubeipvs_services_with_notes{reason=TooLong}":                                                long,
			"kubeipvs_services_with_notes{reason=InvalidSourceRange}":                                     0,
			"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=IPv4,traffic_policy=internal}": internal,
			"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=IPv4,traffic_policy=external}": external,
			"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=IPv6,traffic_policy=internal}": 0,
		})
	}
	counts("two Services", 2, 1, 1, 2)
	m.Received(reconcile.Change{Event: reconcile.Delete{Owner: mail}})
	counts("one of them", 1, 1, 1, 2)
	m.Received(reconcile.Change{Event: reconcile.Upsert{Owner: web}})
	counts("all is well", 0, 0, 0, 0)
}
