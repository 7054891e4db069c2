package llama

import (
	"cmp"
	"math"
	"slices"
	"time"

	"wattline/meter"
)

// request describes a request at the time of a poll.
type request struct {
	key       uint64
	sent      int64 // when its last byte was sent
	started   int64 // when a slot started on it; 0: unknown
	streams   bool
	maxTokens meter.Int // null: the client set none
	bytes     int64     // size of its body
	outputs   int64     // output events received before the poll
	slot      int       // -1: unknown
	task      int64     // the slot's task number; -1: unknown, or the request asked for the slot
	cancelled bool      // its client has left
	presumed  bool      // slot and task are only likely
	unclear   bool      // set by match: it may have one of several slots, or share one with other requests
	passedBy  int64     // how much later the latest request was sent that has got a slot while this one had none, ns
}

// inOrder is how much later than another a request must have been sent to be surely served after it: a server numbers tasks,
// and gives them slots, in the order in which it gets them.
const inOrder = 150 * int64(time.Millisecond)

// hasStarted reports whether the request certainly has a slot, since its stream began.
func (r *request) hasStarted() bool { return r.started > 0 }

// candidate is a busy slot that is not assigned to a request.
type candidate struct {
	Slot
	taken bool
}

// match assigns slots to requests in reqs that have none, where there is no doubt. lastTask is the greatest task
// number of the reply before this one, which arrived at lastAt.
func match(slots []Slot, reqs []*request, lastTask, lastAt int64) {
	var free []candidate
	held := map[int]bool{}
	for _, r := range reqs {
		if r.slot >= 0 && (r.task >= 0 || r.hasStarted()) { // a request that asks for a slot may still be waiting for it
			held[r.slot] = true
		}
	}
	for _, s := range slots {
		if s.Busy && s.Task.Valid && !held[s.ID] {
			free = append(free, candidate{Slot: s})
		}
	}
	var open []*request
	for _, r := range reqs {
		if r.slot < 0 {
			open = append(open, r)
		}
	}
	m := matching{free: free, reqs: reqs, open: open, lastTask: lastTask, lastAt: lastAt}
	m.assignUnique()
	m.assignBySize()
	m.assignInOrder()
}

// assignInOrder presumes that of requests that may still be waiting the first is served first, for slots that no request
// with a stream can have. It serves to follow requests; no slot becomes known by it.
func (m *matching) assignInOrder() {
	m.presuming = true
	var waiting []*request
	for _, r := range m.open {
		if r.slot >= 0 {
			continue
		}
		p := m.candidates(r)
		r.unclear = len(p) > 0
		if !r.hasStarted() && (!r.streams || r.cancelled) { // a stream tells its start itself
			waiting = append(waiting, r)
			continue
		}
		for _, i := range p {
			m.free[i].taken = true
		}
	}
	slices.SortFunc(waiting, func(a, b *request) int { return cmp.Or(cmp.Compare(a.sent, b.sent), cmp.Compare(a.key, b.key)) })
	for _, r := range waiting {
		best := -1
		for _, i := range m.candidates(r) {
			if best < 0 || m.free[i].Task.V < m.free[best].Task.V {
				best = i
			}
		}
		if best >= 0 {
			m.assign(r, best)
			r.presumed = true
		}
	}
}

// matching is the state of one call of match.
type matching struct {
	free     []candidate
	reqs     []*request // all
	open     []*request // without a slot at the beginning
	lastTask int64
	lastAt   int64

	presuming bool // tasks are taken to be numbered in the order in which requests were sent
}

// fits reports whether request r may have slot c, from the properties of the two alone.
func (m *matching) fits(r *request, c *candidate) bool {
	switch {
	case c.taken:
	case c.Streams.Valid && (c.Streams.V == 1) != r.streams:
	case r.maxTokens.Valid && c.MaxTokens.Valid && r.maxTokens != c.MaxTokens:
	case c.Decoded < r.outputs:
	case r.sent > m.lastAt && c.Task.V <= m.lastTask: // the task is older than the request
	default:
		return true
	}
	return false
}

// candidates lists the slots that r may have, as indices of free: slots that fit and agree with the order of
// the requests. A request that was sent after another had started has a greater task number. So if n earlier
// requests have no slot yet, at least n free slots have smaller task numbers than r's.
func (m *matching) candidates(r *request) []int {
	least, most := int64(-1), int64(-1)
	var before, after []*request
	for _, o := range m.reqs {
		earlier, later := o.hasStarted() && o.started < r.sent, r.hasStarted() && r.started < o.sent
		if m.presuming {
			earlier, later = earlier || r.sent-o.sent > inOrder, later || o.sent-r.sent > inOrder
		}
		switch {
		case o == r:
		case o.slot >= 0 && o.task >= 0 && earlier:
			least = max(least, o.task)
		case o.slot >= 0 && o.task >= 0 && later:
			if most < 0 || o.task < most {
				most = o.task
			}
		case o.slot >= 0 || !o.hasStarted():
		case earlier:
			before = append(before, o)
		case later:
			after = append(after, o)
		}
	}
	first, last := m.taskBounds(before, after)
	var out []int
	for i := range m.free {
		c := &m.free[i]
		if m.fits(r, c) && c.Task.V > least && (most < 0 || c.Task.V < most) && c.Task.V > first && c.Task.V < last {
			out = append(out, i)
		}
	}
	return out
}

// taskBounds returns the bounds of a request's task number, given the requests before and after it: n earlier
// requests have at least the n smallest numbers among the slots that they may have, n later ones the n greatest.
func (m *matching) taskBounds(before, after []*request) (first, last int64) {
	first, last = -1, math.MaxInt64
	if n := len(before); n > 0 {
		first = math.MaxInt64
		if tasks := m.tasks(before); len(tasks) >= n {
			first = tasks[n-1]
		}
	}
	if n := len(after); n > 0 {
		last = -1
		if tasks := m.tasks(after); len(tasks) >= n {
			last = tasks[len(tasks)-n]
		}
	}
	return first, last
}

// tasks lists, ascending, the task numbers of the free slots that one of the requests may have.
func (m *matching) tasks(of []*request) (tasks []int64) {
	for i := range m.free {
		c := &m.free[i]
		if slices.ContainsFunc(of, func(o *request) bool { return m.fits(o, c) }) {
			tasks = append(tasks, c.Task.V)
		}
	}
	slices.Sort(tasks)
	return tasks
}

// assignUnique assigns the slot of each request that has one candidate, until nothing changes. A request that
// may not have started gets its slot only if no other request could have it.
func (m *matching) assignUnique() {
	const maxRounds = 16 // longer chains continue at the next poll
	for n, again := 0, true; again && n < maxRounds; n++ {
		again = false
		candidates := make([][]int, len(m.open))
		wanted := map[int]int{} // requests that may have a slot, by index of free
		needed := map[int]int{} // requests that can have no other slot, by the same index
		for i, r := range m.open {
			if r.slot >= 0 {
				continue
			}
			candidates[i] = m.candidates(r)
			for _, p := range candidates[i] {
				wanted[p]++
			}
			if len(candidates[i]) == 1 && r.hasStarted() {
				needed[candidates[i][0]]++
			}
		}
		for i, r := range m.open {
			if r.slot >= 0 || len(candidates[i]) != 1 {
				continue
			}
			p := candidates[i][0]
			if alone := wanted[p] == 1; alone || r.hasStarted() && needed[p] == 1 {
				m.assign(r, p)
				again = true
			}
		}
	}
}

func (m *matching) assign(r *request, p int) {
	c := &m.free[p]
	if c.taken {
		return
	}
	c.taken, r.slot, r.task = true, c.ID, c.Task.V
}

// Limits of assignBySize.
const (
	minSizeRatio    = 1.5 // between a body and the next smaller one, and between their prompts
	maxDensityRatio = 3.0 // between the largest and the smallest number of tokens per byte
)

// assignBySize assigns slots to requests that began together by the sizes of bodies and prompts. It applies if
// as many requests as slots are left, each could have any of the slots, and a body and a prompt are much smaller
// or larger than all others.
func (m *matching) assignBySize() {
	var left []*request
	var indices []int
	for _, r := range m.open {
		if r.slot >= 0 {
			continue
		}
		p := m.candidates(r)
		if len(p) == 0 {
			continue
		}
		if !r.hasStarted() || r.bytes <= 0 || left != nil && !slices.Equal(p, indices) {
			return
		}
		left, indices = append(left, r), p
	}
	if len(left) < 2 || len(left) != len(indices) {
		return
	}
	slices.SortFunc(left, func(a, b *request) int { return cmp.Compare(a.bytes, b.bytes) })
	slices.SortFunc(indices, func(a, b int) int { return cmp.Compare(m.free[a].Prompt.V, m.free[b].Prompt.V) })
	least, most := math.Inf(1), 0.0
	for i, r := range left {
		ratio := float64(m.free[indices[i]].Prompt.V) / float64(r.bytes)
		least, most = min(least, ratio), max(most, ratio)
	}
	if least <= 0 || most > maxDensityRatio*least {
		return
	}
	for i, r := range left {
		if m.separated(left, indices, i) && m.separated(left, indices, i+1) {
			m.assign(r, indices[i])
		}
	}
}

// separated reports whether the i-th body and prompt are much larger than those before them.
func (m *matching) separated(left []*request, indices []int, i int) bool {
	if i == 0 || i == len(left) {
		return true
	}
	small, large := m.free[indices[i-1]].Prompt.V, m.free[indices[i]].Prompt.V
	return float64(left[i].bytes) >= minSizeRatio*float64(left[i-1].bytes) && float64(large) >= minSizeRatio*float64(small)
}
