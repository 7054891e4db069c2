package llama

import (
	"cmp"
	"math"
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
	task      int64     // of that slot; with slot >= 0; -1 where the request asked for the slot
}

// certain says that the request holds a slot: its own stream said so.
func (r *live) certain() bool { return r.started > 0 }

// candidate is a busy slot that nobody is known to hold.
type candidate struct {
	Slot
	taken bool
}

// match finds the slots of those requests in reqs that have none yet; some may remain without. seen is the greatest task number of an earlier look that was answered at seenAt.
func match(slots []Slot, reqs []*live, seen, seenAt int64) {
	var free []candidate
	held := map[int]bool{}
	for _, r := range reqs {
		if r.slot >= 0 && (r.task >= 0 || r.certain()) { // one that asks for a slot may yet wait for it
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
// followed one another. One that was sent after another had started has a later task; so behind n
// earlier ones that have no slot yet, at least n free slots have earlier tasks.
func (m *matching) places(r *live) []int {
	least, most := int64(-1), int64(-1)
	var before, behind []*live
	for _, o := range m.reqs {
		earlier, later := o.certain() && o.started < r.sent, r.certain() && r.started < o.sent
		switch {
		case o == r:
		case o.slot >= 0 && o.task >= 0 && earlier:
			least = max(least, o.task)
		case o.slot >= 0 && o.task >= 0 && later:
			if most < 0 || o.task < most {
				most = o.task
			}
		case o.slot >= 0 || !o.certain():
		case earlier:
			before = append(before, o)
		case later:
			behind = append(behind, o)
		}
	}
	first, last := m.bounds(before, behind)
	var out []int
	for i := range m.free {
		c := &m.free[i]
		if m.fits(r, c) && c.Task.V > least && (most < 0 || c.Task.V < most) && c.Task.V > first && c.Task.V < last {
			out = append(out, i)
		}
	}
	return out
}

// bounds are the tasks between which one lies that has so many requests before and behind it: of the free
// slots in which they may sit, the n earliest tasks, or more, are theirs, and the n latest.
func (m *matching) bounds(before, behind []*live) (first, last int64) {
	first, last = -1, math.MaxInt64
	if n := len(before); n > 0 {
		first = math.MaxInt64
		if tasks := m.tasks(before); len(tasks) >= n {
			first = tasks[n-1]
		}
	}
	if n := len(behind); n > 0 {
		last = -1
		if tasks := m.tasks(behind); len(tasks) >= n {
			last = tasks[len(tasks)-n]
		}
	}
	return first, last
}

// tasks lists, ascending, the tasks of the free slots in which one of the requests may sit.
func (m *matching) tasks(of []*live) (tasks []int64) {
	for i := range m.free {
		c := &m.free[i]
		if slices.ContainsFunc(of, func(o *live) bool { return m.fits(o, c) }) {
			tasks = append(tasks, c.Task.V)
		}
	}
	slices.Sort(tasks)
	return tasks
}

// singles gives every request that has one place left that place, until nothing changes. One that is
// not certain to have started gets it only where nobody else could be there.
func (m *matching) singles() {
	const rounds = 16 // more only where dozens begin in a chain; the next look goes on
	for n, again := 0, true; again && n < rounds; n++ {
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

// bySize tells apart those that began at once, where as many requests as slots are left and any could sit in
// any: one whose body is much smaller or larger than all others sits where the prompt is.
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
	least, most := math.Inf(1), 0.0
	for i, r := range left {
		ratio := float64(m.free[places[i]].Prompt.V) / float64(r.bytes)
		least, most = min(least, ratio), max(most, ratio)
	}
	if least <= 0 || most > ratioSpan*least {
		return
	}
	for i, r := range left {
		if m.apart(left, places, i) && m.apart(left, places, i+1) {
			m.give(r, places[i])
		}
	}
}

// apart says whether the i-th body and prompt are much larger than those before them.
func (m *matching) apart(left []*live, places []int, i int) bool {
	if i == 0 || i == len(left) {
		return true
	}
	small, large := m.free[places[i-1]].Prompt.V, m.free[places[i]].Prompt.V
	return float64(left[i].bytes) >= sizeStep*float64(left[i-1].bytes) && float64(large) >= sizeStep*float64(small)
}
