// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// chunkRows is about how many rows are written at a time: few enough that other changes need not wait for long, and so
// many that the kernel takes them in full batches.
const chunkRows = 4096

// queueTouched queues the rows of Services that an event touched, and notes what they were.
func (c *Core) queueTouched(owner desired.Owner, t desired.Touched, now time.Time) {
	g := group{
		owners: []desired.Owner{owner}, entries: c.entries.note(now), servers: c.virtualServers.note(now), addresses: c.addresses.note(now),
	}
	g.rows = len(g.entries) + len(g.servers) + len(g.addresses)
	for _, w := range t.RealServers {
		if c.realServers.tracked {
			g.servers = append(g.servers, w.Server)
			g.rows += c.noteReals(w, now)
		}
	}
	c.queue.put(g)
}

// noteReals begins or ends draining as it is desired of the real servers of a virtual server, and returns how many
// changed.
func (c *Core) noteReals(w desired.WereReals, now time.Time) int {
	c.realServers.note(w)
	changed := 0
	leave := false
	for was, is := range state.Both(w.Reals, c.desired.RealServers.Of(w.Server)) {
		if was != nil && is != nil && *was == *is {
			continue
		}
		changed++
		leave = leave || is == nil || is.Weight() == 0
		k := cmp.Or(is, was).Key(w.Server)
		c.realServers.hasten(k, now)
		if is != nil {
			c.drains.book.End(k)
			c.spareFlows(k)
		} else {
			c.drain(k, now)
		}
	}
	if leave {
		c.realServers.leaving = append(c.realServers.leaving, w.Server)
	}
	return changed
}

// gather queues all rows that an audit found not to be as desired. What waits for its retry goes on waiting.
func (c *Core) gather() {
	if c.entries.differ.len()+c.virtualServers.differ.len()+c.realServers.differ.len()+c.addresses.differ.len() == 0 {
		return
	}
	waited := c.queue.size > 0
	c.queue.reserve(c.virtualServers.differ.len())
	for claims := range c.desired.Claims() {
		g := group{owners: []desired.Owner{claims.Owner}}
		for _, r := range claims.Entries {
			if c.entries.stale(r.Key) {
				g.entries = append(g.entries, r.Key)
			}
		}
		for _, r := range claims.Addresses {
			if c.addresses.stale(r.Key) {
				g.addresses = append(g.addresses, r.Key)
			}
		}
		g.rows = len(g.entries) + len(g.addresses)
		for _, r := range claims.VirtualServers {
			g.rows += c.gatherServer(r.Key, &g)
		}
		c.queue.put(g)
	}
	c.gatherUndesired()
	if waited { // what waits and is gathered too was counted twice
		c.queue.recount(c.remaining)
	}
}

// gatherServer adds a virtual server to a group if it or its real servers are not as wanted, and returns how many rows
// those are.
func (c *Core) gatherServer(k state.VirtualServerKey, g *group) int {
	rows := 0
	if c.virtualServers.stale(k) {
		rows++
	}
	if c.realServers.differ.has(k) {
		rows += c.realServers.distance(k)
	}
	if rows > 0 {
		g.servers = append(g.servers, k)
	}
	return rows
}

// gatherUndesired is for rows that are not desired.
func (c *Core) gatherUndesired() {
	servers := slices.Collect(c.virtualServers.undesired())
	for k := range c.realServers.differ.rows {
		if !c.wantsServer(k) {
			servers = append(servers, k)
		}
	}
	c.queueRows(slices.Collect(c.addresses.undesired()), servers, slices.Collect(c.entries.undesired()))
}

// queueRows queues rows, each with those that it depends on.
func (c *Core) queueRows(addresses []state.Address, servers []state.VirtualServerKey, entries []state.SetEntry) {
	slices.SortFunc(addresses, state.Address.Compare)
	slices.SortFunc(servers, state.VirtualServerKey.Compare)
	slices.SortFunc(entries, state.SetEntry.Compare)
	for _, a := range addresses {
		c.queue.put(group{owners: ownerIf(c.desired.Addresses.Owner(a)), addresses: []state.Address{a}, rows: 1})
	}
	for _, k := range slices.Compact(servers) {
		g := group{owners: ownerIf(c.desired.VirtualServers.Owner(k))}
		g.rows = c.gatherServer(k, &g)
		c.queue.put(g)
	}
	for _, e := range entries {
		g := c.entryGroup(e)
		g.owners = ownerIf(c.desired.Entries.Owner(e))
		c.queue.put(g)
	}
}

// entryGroup is an entry with the virtual server that it proves or leads to.
func (c *Core) entryGroup(e state.SetEntry) group {
	g := group{entries: []state.SetEntry{e}, rows: 1}
	v, _ := c.entries.get(e)
	if to, leads := e.LeadsTo(v); leads {
		g.servers = append(g.servers, to)
	}
	if e.Address.IsValid() && e.Port != 0 {
		g.servers = append(g.servers, c.provable(e)...)
	}
	return g
}

// admit marks groups of about as many rows as may be written at a time: most of them the smallest, so that a small
// change need not wait for a large one, and then the oldest, so that a large one comes to its end.
func (c *Core) admit(now time.Time) {
	room := c.chunk()
	for _, g := range c.queue.rest {
		if g.place == led {
			c.queue.remove(g)
			c.markAll(g, now)
		}
	}
	c.queue.rest = nil
	for share := room * 3 / 4; share > 0; {
		g := c.queue.smallest()
		if g == nil {
			break
		}
		rows := c.mark(g, room, now)
		share -= rows
		room -= rows
	}
	for room > 0 {
		g := c.queue.oldest()
		if g == nil {
			break
		}
		room -= c.mark(g, room, now)
	}
}

func (c *Core) chunk() int {
	if c.options.Chunk > 0 {
		return c.options.Chunk
	}
	return chunkRows
}

// mark marks a group, or a part of one that is too large, and returns how many rows of the chunk that takes. Entries
// without which all else would be held back come in one chunk, and the rest of the group in the next.
func (c *Core) mark(g *group, room int, now time.Time) int {
	if g.rows > c.chunk() && !g.started { // what went to and fro was counted each time
		g.rows = c.remaining(g)
	}
	if g.rows > c.chunk() && c.markPart(g, room, now) {
		return room
	}
	if c.markFirst(g, now) {
		c.queue.lead(g)
	} else {
		c.queue.remove(g)
		c.markAll(g, now)
	}
	return max(g.rows, 1)
}

// markFirst marks the entries that lead, and reports whether there were any.
func (c *Core) markFirst(g *group, now time.Time) bool {
	first := only(g.entries, func(e state.SetEntry) bool { return c.leads(e, now) })
	c.entries.touch(first...)
	return len(first) > 0
}

func (c *Core) markAll(g *group, now time.Time) {
	c.entries.mark(g.entries, now)
	c.virtualServers.mark(g.servers, now)
	c.realServers.touch(g.servers...)
	c.addresses.mark(g.addresses, now)
}

// markPart marks what of a large group can be written before all else of it, and reports whether there was anything. In
// the order of kernel.Tables that is: the entries that come first, the real servers that are to be added, all that does
// not come after real servers have left, and the real servers that leave.
func (c *Core) markPart(g *group, room int, now time.Time) bool {
	if !g.started {
		g.started = true
		if c.markFirst(g, now) {
			return true
		}
	}
	if c.markSome(g, room, c.realServers.missing) {
		return true
	}
	if !g.leaving {
		g.leaving = true
		c.virtualServers.mark(only(g.servers, c.wantsServer), now)
		c.entries.mark(only(g.entries, func(e state.SetEntry) bool { return !e.Set.KeepsClient() }), now)
		c.addresses.mark(g.addresses, now)
		return true
	}
	return c.markSome(g, room, c.realServers.distance)
}

// markSome marks as many real servers as there is room for, of those that count counts.
func (c *Core) markSome(g *group, room int, count func(state.VirtualServerKey) int) bool {
	left := room
	for _, k := range g.servers {
		if n := min(left, count(k)); n > 0 {
			if c.wantsServer(k) {
				c.virtualServers.touch(k)
			}
			c.realServers.touchSome(k, n)
			left -= n
		}
	}
	g.rows -= room - left
	return left < room
}

// precedes reports whether an entry is to be written before real servers are added. What leads elsewhere or refuses has
// to wait for them. That by which clients keep their address comes last of all, and so has to leave now.
func (c *Core) precedes(e state.SetEntry) bool {
	v, wanted := c.desired.Entries.Get(e)
	if e.Set.KeepsClient() {
		return !wanted
	}
	_, leads := e.LeadsTo(v)
	return wanted && !leads && !e.Set.Refuses()
}

func (c *Core) wantsServer(k state.VirtualServerKey) bool {
	_, wanted := c.desired.VirtualServers.Get(k)
	return wanted
}

// leads reports whether an entry precedes real servers, is not as desired yet, and does not wait for its retry: then
// all else has to go on without it.
func (c *Core) leads(e state.SetEntry, now time.Time) bool {
	return c.entries.differ.has(e) && c.precedes(e) && !c.entries.waits(e, now)
}

func only[T any](list []T, is func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), func(e T) bool { return !is(e) })
}

// release queues rows again that were held back and may not be any more, if they are too many for one delta.
func (c *Core) release() {
	rows := len(c.entries.recalled) + len(c.virtualServers.recalled) + len(c.addresses.recalled)
	for _, k := range slices.Concat(c.virtualServers.recalled, c.realServers.recalled) {
		rows += c.realServers.distance(k)
	}
	if rows <= c.chunk() {
		return
	}
	servers := slices.Concat(c.virtualServers.takeRecalled(), c.realServers.takeRecalled())
	c.queueRows(c.addresses.takeRecalled(), servers, c.entries.takeRecalled())
	c.queue.recount(c.remaining)
}

func ownerIf(o desired.Owner, owned bool) []desired.Owner {
	if !owned {
		return nil
	}
	return []desired.Owner{o}
}

// remaining is how many rows of a group are not as desired.
func (c *Core) remaining(g *group) int {
	n := len(only(g.entries, c.entries.differ.has)) + len(only(g.servers, c.virtualServers.differ.has)) +
		len(only(g.addresses, c.addresses.differ.has))
	for _, k := range g.servers {
		n += c.realServers.distance(k)
	}
	return n
}
