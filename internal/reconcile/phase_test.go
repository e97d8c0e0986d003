// SPDX-License-Identifier: Apache-2.0

package reconcile

import "testing"

func TestPhases(t *testing.T) {
	for name, c := range map[string]struct {
		on   []trigger
		want phases
	}{
		"at first":                           {nil, phases{starting, waiting, leaving}},
		"restored":                           {[]trigger{objectsRestored}, phases{restored, waitingAlone, leaving}},
		"restored, then synced":              {[]trigger{objectsRestored, objectsSynced}, phases{synced, waitingAlone, leaving}},
		"synced stays so":                    {[]trigger{objectsSynced, objectsRestored}, phases{synced, waitingAlone, leaving}},
		"the first audit":                    {[]trigger{objectsSynced, auditBegins}, phases{synced, auditing, leaving}},
		"after it":                           {[]trigger{objectsSynced, auditBegins, auditEnds}, phases{synced, waiting, leaving}},
		"synced while an audit goes on":      {[]trigger{objectsRestored, auditBegins, objectsSynced}, phases{synced, auditingAgain, leaving}},
		"... and when it has ended":          {[]trigger{objectsRestored, auditBegins, objectsSynced, auditEnds}, phases{synced, waitingAlone, leaving}},
		"an audit that lacks what was there": {[]trigger{objectsSynced, auditBegins, auditEnds, auditBegins, auditDoubted, auditEnds}, phases{synced, waitingAlone, leaving}},
		"others have their turn":             {[]trigger{allLeft}, phases{starting, waiting, arriving}},
		"... and then what leaves":           {[]trigger{allLeft, othersTaken}, phases{starting, waiting, leaving}},
		"others before all has left":         {[]trigger{othersTaken}, phases{starting, waiting, leaving}},
	} {
		p := NewCore(testOptions()).phases
		for _, on := range c.on {
			p.take(on)
		}
		if p != c.want {
			t.Errorf("%s: %+v, want %+v", name, p, c.want)
		}
	}
}
