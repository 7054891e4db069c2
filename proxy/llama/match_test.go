package llama

import (
	"testing"
	"time"

	"wattline/meter"
)

// busy is a streaming slot at work.
func busy(id int, task, maxTokens, prompt, decoded int64) Slot {
	return Slot{ID: id, Busy: true, Task: meter.Some(task), Streams: meter.Some(1), MaxTokens: meter.Some(maxTokens), Prompt: meter.Some(prompt), Decoded: decoded}
}

// stream is a request with a slot that started at.
func stream(key uint64, sent, started, maxTokens int64) *request {
	return &request{key: key, sent: sent, started: started, streams: true, maxTokens: meter.Some(maxTokens), slot: -1}
}

// TestMatch: which requests get a slot, and which stay unknown.
func TestMatch(t *testing.T) {
	with := func(r *request, change func(*request)) *request { change(r); return r }
	for name, c := range map[string]struct {
		slots    []Slot
		reqs     []*request
		lastTask int64
		lastAt   int64
		want     []int
	}{
		"alone":                         {slots: []Slot{{ID: 0}, busy(1, 7, 50, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50)}, want: []int{1}},
		"by max_tokens":                 {slots: []Slot{busy(0, 8, 20, 9, 3), busy(3, 7, 50, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50), stream(2, 11, 20, 20)}, want: []int{3, 0}},
		"equal, began together":         {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50), stream(2, 11, 21, 50)}, want: []int{-1, -1}},
		"equal, one after the other":    {slots: []Slot{busy(0, 9, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50), stream(2, 25, 30, 50)}, want: []int{1, 0}},
		"equal, one with more output":   {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 30)}, reqs: []*request{stream(1, 10, 20, 50), with(stream(2, 11, 21, 50), func(r *request) { r.outputs = 20 })}, want: []int{0, 1}},
		"a request of another client":   {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50)}, want: []int{-1}},
		"a task older than the request": {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50)}, lastTask: 7, lastAt: 5, want: []int{1}},
		"a slot that is known":          {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*request{with(stream(1, 10, 20, 50), func(r *request) { r.slot, r.task = 0, 7 }), stream(2, 11, 21, 50)}, want: []int{0, 1}},
		"bodies of very different size": {slots: []Slot{busy(0, 7, 50, 900, 3), busy(1, 8, 50, 90, 3)}, reqs: []*request{with(stream(1, 10, 20, 50), func(r *request) { r.bytes = 400 }), with(stream(2, 11, 21, 50), func(r *request) { r.bytes = 4000 })}, want: []int{1, 0}},
		"bodies of similar size":        {slots: []Slot{busy(0, 7, 50, 110, 3), busy(1, 8, 50, 90, 3)}, reqs: []*request{with(stream(1, 10, 20, 50), func(r *request) { r.bytes = 400 }), with(stream(2, 11, 21, 50), func(r *request) { r.bytes = 500 })}, want: []int{-1, -1}},
		"two equal and a larger one": {slots: []Slot{busy(0, 7, 50, 90, 3), busy(1, 8, 50, 900, 3), busy(2, 9, 50, 90, 3)}, reqs: []*request{
			with(stream(1, 10, 20, 50), func(r *request) { r.bytes = 400 }), with(stream(2, 11, 21, 50), func(r *request) { r.bytes = 4000 }), with(stream(3, 11, 21, 50), func(r *request) { r.bytes = 400 }),
		}, want: []int{-1, 1, -1}},
		"two equal and one after them":       {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 9, 50, 9, 3), busy(2, 8, 50, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50), stream(2, 11, 21, 50), stream(3, 25, 30, 50)}, want: []int{-1, -1, 1}},
		"two equal and one before them":      {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 9, 50, 9, 3), busy(2, 8, 50, 9, 3)}, reqs: []*request{stream(1, 10, 12, 50), stream(2, 15, 21, 50), stream(3, 16, 30, 50)}, want: []int{0, -1, -1}},
		"an image in the body":               {slots: []Slot{busy(0, 7, 50, 900, 3), busy(1, 8, 50, 90, 3)}, reqs: []*request{with(stream(1, 10, 20, 50), func(r *request) { r.bytes = 400 }), with(stream(2, 11, 21, 50), func(r *request) { r.bytes = 900_000 })}, want: []int{-1, -1}},
		"one before it may not have started": {slots: []Slot{busy(0, 7, 50, 9, 3)}, reqs: []*request{stream(1, 10, 0, 50), stream(2, 11, 20, 50)}, want: []int{-1, 0}},
		"one may not have started":           {slots: []Slot{busy(0, 7, 50, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50), stream(2, 11, 0, 50)}, want: []int{0, -1}},
		"two may not have started":           {slots: []Slot{busy(0, 7, 50, 9, 3)}, reqs: []*request{stream(1, 10, 0, 50), stream(2, 11, 0, 50)}, want: []int{-1, -1}},
		"alone, may not have started":        {slots: []Slot{busy(0, 7, 50, 9, 3)}, reqs: []*request{stream(1, 10, 0, 50)}, want: []int{0}},
		"stream and unstreamed":              {slots: []Slot{{ID: 0, Busy: true, Task: meter.Some(7), Streams: meter.Some(0)}, busy(1, 8, 50, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50), {key: 2, sent: 9, slot: -1}}, want: []int{1, 0}},
		"three, told apart in a chain":       {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3), busy(2, 9, 20, 9, 3)}, reqs: []*request{stream(1, 10, 20, 50), stream(2, 25, 30, 50), with(stream(3, 25, 30, 50), func(r *request) { r.maxTokens = meter.Int{} })}, want: []int{0, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			match(c.slots, c.reqs, c.lastTask, c.lastAt)
			for i, r := range c.reqs {
				if r.presumed {
					r.slot = -1
				}
				if r.slot != c.want[i] {
					t.Errorf("request %d gets slot %d, want %d", r.key, r.slot, c.want[i])
				}
			}
		})
	}
}

// A client leaves in the queue, and its task is so short that no look shows it: it is over once a request that was sent later
// has a slot, and until then it waits.
func TestTaskBetweenLooks(t *testing.T) {
	now := int64(1)
	const ms = int64(time.Millisecond)
	tr := &SlotTracker{wake: make(chan struct{}, 1), reqs: map[uint64]*TrackedRequest{}, cfg: SlotTrackerConfig{Now: func() int64 { return now }}}
	send := func(key uint64, at, most int64) *TrackedRequest {
		now = at
		return tr.RequestSent(key, at, meter.Work{Streams: true, MaxTokens: meter.Some(most)}, 100, nil)
	}
	see := func(at int64, slot Slot) (of SlotObservation) {
		now = at
		for _, o := range tr.update([]Slot{slot}, tr.snapshot(at), at) {
			if o.Request == 2 {
				of = o
			}
		}
		return of
	}
	first := send(1, 10*ms, 50)
	first.SlotStarted(20 * ms)
	gone := send(2, 100*ms, 60)
	gone.Ended(150*ms, true)
	next := send(3, 300*ms, 70)
	if o := see(400*ms, busy(0, 7, 50, 9, 3)); !o.Look || o.Working || o.Idle {
		t.Errorf("in the queue: %+v", o)
	}
	first.Ended(500*ms, false)
	next.SlotStarted(520 * ms)
	if o := see(600*ms, busy(0, 12, 70, 9, 0)); !o.Idle {
		t.Errorf("passed by: %+v", o)
	}
}

// TestParseSlots: the shapes of several builds, and replies that are no list of slots.
func TestParseSlots(t *testing.T) {
	got, err := ParseSlots([]byte(`[{"id":0,"is_processing":false},{"id":1,"is_processing":true,"id_task":5,"n_prompt_tokens":9,
		"params":{"stream":true,"n_predict":40},"next_token":{"n_decoded":4}},{"id":2,"is_processing":true,"id_task":6,
		"params":{"max_tokens":30,"n_predict":40},"next_token":[{"n_decoded":3}]}]`))
	want := []Slot{{ID: 0}, {ID: 1, Busy: true, Task: meter.Some(5), Prompt: meter.Some(9), Streams: meter.Some(1), MaxTokens: meter.Some(40), Decoded: 4},
		{ID: 2, Busy: true, Task: meter.Some(6), MaxTokens: meter.Some(30), Decoded: 3}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("slot %d: %+v, want %+v", i, got[i], want[i])
		}
	}
	for _, body := range []string{``, `{}`, `[]`, `[{"id":1}]`, `[{"is_processing":true}]`, `[{"id":-1,"is_processing":true}]`, `"slots"`} {
		if s, err := ParseSlots([]byte(body)); err == nil {
			t.Errorf("%s was read as %+v", body, s)
		}
	}
}

// BenchmarkMatch: 128 equal requests on 128 slots, the worst case.
func BenchmarkMatch(b *testing.B) {
	for b.Loop() {
		var all []Slot
		var reqs []*request
		for i := range 128 {
			all = append(all, busy(i, int64(i), 50, 9, 3))
			reqs = append(reqs, stream(uint64(i+1), int64(i), int64(i+2), 50))
		}
		match(all, reqs, 0, 0)
	}
}
