package slots

import (
	"cmp"
	"slices"

	"wattline/meter"
)

// live is what the matching knows of a request at the moment of a look.
type live struct {
	key       uint64
	sent      int64 // when it had been sent
	started   int64 // when its slot was seen to start, 0 where that is not known (yet)
	streams   bool
	maxTokens meter.Int // null: the client named none
	bytes     int64     // size of its body
	outputs   int64     // output events seen before the look
	slot      int       // where it sits; -1 unknown
	task      int64     // of that slot; with slot >= 0
}

// certain says that the request holds a slot: its own stream said so.
func (r *live) certain() bool { return r.started > 0 }

// candidate is a busy slot that nobody is known to hold.
type candidate struct {
	Slot
	taken bool
}

// match finds the slots of those requests in reqs that have none yet, and returns how many certain ones
// remain without. seen is the greatest task number of an earlier look that was answered at seenAt.
func match(slots []Slot, reqs []*live, seen, seenAt int64) (unknown int) {
	var free []candidate
	held := map[int]bool{}
	for _, r := range reqs {
		if r.slot >= 0 {
			held[r.slot] = true
		}
	}
	for _, s := range slots {
		if s.Busy && s.Task.Valid && !held[s.ID] {
			free = append(free, candidate{Slot: s})
		}
	}
	var open []*live
	for _, r := range reqs {
		if r.slot < 0 {
			open = append(open, r)
		}
	}
	m := matching{free: free, reqs: reqs, open: open, seen: seen, seenAt: seenAt}
	m.singles()
	m.bySize()
	for _, r := range open {
		if r.slot < 0 && r.certain() {
			unknown++
		}
	}
	return unknown
}

// matching is one look's puzzle.
type matching struct {
	free   []candidate
	reqs   []*live // all
	open   []*live // those without a slot at the beginning
	seen   int64
	seenAt int64
}

// fits says whether request r may sit in slot c, by what each says of itself.
func (m *matching) fits(r *live, c *candidate) bool {
	switch {
	case c.taken:
	case c.Streams.Valid && (c.Streams.V == 1) != r.streams:
	case r.maxTokens.Valid && c.MaxTokens.Valid && r.maxTokens != c.MaxTokens:
	case c.Decoded < r.outputs:
	case r.sent > m.seenAt && c.Task.V <= m.seen: // that task is older than the request
	default:
		return true
	}
	return false
}

// places lists, as indices of free, where r may sit: what fits, and is in the order in which requests
// followed one another. One that was sent after another had started has a later task.
func (m *matching) places(r *live) []int {
	least, most := int64(-1), int64(-1)
	for _, o := range m.reqs {
		if o == r || !o.certain() && o.slot < 0 {
			continue
		}
		first, last, ok := m.tasks(o)
		if !ok {
			continue
		}
		if o.certain() && o.started < r.sent {
			least = max(least, first)
		}
		if r.certain() && r.started < o.sent && (most < 0 || last < most) {
			most = last
		}
	}
	var out []int
	for i := range m.free {
		if c := &m.free[i]; m.fits(r, c) && c.Task.V > least && (most < 0 || c.Task.V < most) {
			out = append(out, i)
		}
	}
	return out
}

// tasks are the least and the greatest number that request o's task may have.
func (m *matching) tasks(o *live) (first, last int64, ok bool) {
	if o.slot >= 0 {
		return o.task, o.task, true
	}
	for i := range m.free {
		c := &m.free[i]
		if !m.fits(o, c) {
			continue
		}
		if !ok {
			first, last, ok = c.Task.V, c.Task.V, true
		}
		first, last = min(first, c.Task.V), max(last, c.Task.V)
	}
	return first, last, ok
}

// singles gives every request that has one place left that place, until nothing changes. One that is
// not certain to have started gets it only where nobody else could be there.
func (m *matching) singles() {
	for again := true; again; {
		again = false
		places := make([][]int, len(m.open))
		wanted := map[int]int{} // by how many
		needed := map[int]int{} // by how many that have no other
		for i, r := range m.open {
			if r.slot >= 0 {
				continue
			}
			places[i] = m.places(r)
			for _, p := range places[i] {
				wanted[p]++
			}
			if len(places[i]) == 1 && r.certain() {
				needed[places[i][0]]++
			}
		}
		for i, r := range m.open {
			if r.slot >= 0 || len(places[i]) != 1 {
				continue
			}
			p := places[i][0]
			if alone := wanted[p] == 1; alone || r.certain() && needed[p] == 1 {
				m.give(r, p)
				again = true
			}
		}
	}
}

func (m *matching) give(r *live, p int) {
	c := &m.free[p]
	if c.taken {
		return
	}
	c.taken, r.slot, r.task = true, c.ID, c.Task.V
}

// How much larger a body, and a prompt, must be than the next smaller one to be told apart by size, and
// how far the tokens per byte may then lie apart.
const (
	sizeStep  = 1.5
	ratioSpan = 3.0
)

// bySize tells those apart that began at once, where as many requests as slots are left, any could sit in
// any, and both their bodies and the slots' prompts differ widely in size.
func (m *matching) bySize() {
	var left []*live
	var places []int
	for _, r := range m.open {
		if r.slot >= 0 {
			continue
		}
		p := m.places(r)
		if len(p) == 0 {
			continue
		}
		if !r.certain() || r.bytes <= 0 || left != nil && !slices.Equal(p, places) {
			return
		}
		left, places = append(left, r), p
	}
	if len(left) < 2 || len(left) != len(places) {
		return
	}
	slices.SortFunc(left, func(a, b *live) int { return cmp.Compare(a.bytes, b.bytes) })
	slices.SortFunc(places, func(a, b int) int { return cmp.Compare(m.free[a].Prompt.V, m.free[b].Prompt.V) })
	var least, most float64
	for i, r := range left {
		prompt := m.free[places[i]].Prompt
		if prompt.V <= 0 {
			return
		}
		if i > 0 && (float64(r.bytes) < sizeStep*float64(left[i-1].bytes) || float64(prompt.V) < sizeStep*float64(m.free[places[i-1]].Prompt.V)) {
			return
		}
		ratio := float64(prompt.V) / float64(r.bytes)
		if i == 0 {
			least, most = ratio, ratio
		}
		least, most = min(least, ratio), max(most, ratio)
	}
	if most > ratioSpan*least {
		return
	}
	for i, r := range left {
		m.give(r, places[i])
	}
}
