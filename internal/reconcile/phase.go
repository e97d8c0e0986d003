// SPDX-License-Identifier: Apache-2.0

package reconcile

// phase is a state that Core can be in. It is in one phase of each of three kinds. transitions has all ways between
// them.
type phase uint8

const (
	// What is known of the objects decides what may be written.
	starting phase = iota // nothing is known: nothing may be written
	restored              // some time ago's is known: rows may be added and updated
	synced                // all is known: rows may be removed, too

	// What the audit does.
	waiting       // for its time; the next one may go on while changes are written
	waitingAlone  // for its time; nothing is to be written during the next one
	auditing      // the tables are being listed
	auditingAgain // the same, and the next audit is to be alone

	// Which rows the next delta is of. They have turns, so that neither waits for as long as the others come.
	leaving  // real servers that are to get no more packets
	arriving // all other rows that are marked
)

// trigger is what moves Core from one phase to another.
type trigger uint8

const (
	objectsRestored trigger = iota // the event Restored
	objectsSynced                  // the event Synced
	auditBegins
	auditDoubted // what it lacks may have been written while it went on
	auditEnds
	allLeft // no real server waits to leave
	othersTaken
)

type transition struct {
	from phase
	on   trigger
	to   phase
}

func transitions() [14]transition {
	return [...]transition{
		{starting, objectsRestored, restored},
		{starting, objectsSynced, synced},
		{restored, objectsSynced, synced},

		// What becomes known of the objects is compared with the kernel before anything else is written.
		{waiting, objectsRestored, waitingAlone},
		{waiting, objectsSynced, waitingAlone},
		{auditing, objectsRestored, auditingAgain},
		{auditing, objectsSynced, auditingAgain},
		{auditing, auditDoubted, auditingAgain},
		{waiting, auditBegins, auditing},
		{waitingAlone, auditBegins, auditing},
		{auditing, auditEnds, waiting},
		{auditingAgain, auditEnds, waitingAlone},

		{leaving, allLeft, arriving},
		{arriving, othersTaken, leaving},
	}
}

// phases are the present ones, one of each kind.
type phases struct{ objects, audit, delta phase }

// take moves every phase from which t leads to another one.
func (p *phases) take(t trigger) {
	for _, at := range []*phase{&p.objects, &p.audit, &p.delta} {
		for _, way := range transitions() {
			if way.on == t && way.from == *at {
				*at = way.to
				break
			}
		}
	}
}

func (p *phases) mayWrite() bool   { return p.objects != starting }
func (p *phases) mayRemove() bool  { return p.objects == synced }
func (p *phases) isAuditing() bool { return p.audit == auditing || p.audit == auditingAgain }
