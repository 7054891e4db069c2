package llama

import (
	"testing"

	"wattline/meter"
)

// busy is a streaming slot at work.
func busy(id int, task, maxTokens, prompt, decoded int64) Slot {
	return Slot{ID: id, Busy: true, Task: meter.Some(task), Streams: meter.Some(1), MaxTokens: meter.Some(maxTokens), Prompt: meter.Some(prompt), Decoded: decoded}
}

// stream is a request whose slot started at.
func stream(key uint64, sent, started, maxTokens int64) *live {
	return &live{key: key, sent: sent, started: started, streams: true, maxTokens: meter.Some(maxTokens), slot: -1}
}

// TestMatch: what tells requests apart, and what does not.
func TestMatch(t *testing.T) {
	with := func(r *live, change func(*live)) *live { change(r); return r }
	for name, c := range map[string]struct {
		slots  []Slot
		reqs   []*live
		seen   int64
		seenAt int64
		want   []int
	}{
		"alone":                       {slots: []Slot{{ID: 0}, busy(1, 7, 50, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50)}, want: []int{1}},
		"by max_tokens":               {slots: []Slot{busy(0, 8, 20, 9, 3), busy(3, 7, 50, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50), stream(2, 11, 20, 20)}, want: []int{3, 0}},
		"twins that began at once":    {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50), stream(2, 11, 21, 50)}, want: []int{-1, -1}},
		"twins, one after the other":  {slots: []Slot{busy(0, 9, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50), stream(2, 25, 30, 50)}, want: []int{1, 0}},
		"twins, one with more output": {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 30)}, reqs: []*live{stream(1, 10, 20, 50), with(stream(2, 11, 21, 50), func(r *live) { r.outputs = 20 })}, want: []int{0, 1}},
		"a stranger beside":           {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50)}, want: []int{-1}},
		"a stranger seen before":      {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50)}, seen: 7, seenAt: 5, want: []int{1}},
		"a slot that is known":        {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3)}, reqs: []*live{with(stream(1, 10, 20, 50), func(r *live) { r.slot, r.task = 0, 7 }), stream(2, 11, 21, 50)}, want: []int{0, 1}},
		"bodies of very unlike size":  {slots: []Slot{busy(0, 7, 50, 900, 3), busy(1, 8, 50, 90, 3)}, reqs: []*live{with(stream(1, 10, 20, 50), func(r *live) { r.bytes = 400 }), with(stream(2, 11, 21, 50), func(r *live) { r.bytes = 4000 })}, want: []int{1, 0}},
		"bodies of like size":         {slots: []Slot{busy(0, 7, 50, 110, 3), busy(1, 8, 50, 90, 3)}, reqs: []*live{with(stream(1, 10, 20, 50), func(r *live) { r.bytes = 400 }), with(stream(2, 11, 21, 50), func(r *live) { r.bytes = 500 })}, want: []int{-1, -1}},
		"twins and a larger one": {slots: []Slot{busy(0, 7, 50, 90, 3), busy(1, 8, 50, 900, 3), busy(2, 9, 50, 90, 3)}, reqs: []*live{
			with(stream(1, 10, 20, 50), func(r *live) { r.bytes = 400 }), with(stream(2, 11, 21, 50), func(r *live) { r.bytes = 4000 }), with(stream(3, 11, 21, 50), func(r *live) { r.bytes = 400 }),
		}, want: []int{-1, 1, -1}},
		"twins and one after them":     {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 9, 50, 9, 3), busy(2, 8, 50, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50), stream(2, 11, 21, 50), stream(3, 25, 30, 50)}, want: []int{-1, -1, 1}},
		"twins and one before them":    {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 9, 50, 9, 3), busy(2, 8, 50, 9, 3)}, reqs: []*live{stream(1, 10, 12, 50), stream(2, 15, 21, 50), stream(3, 16, 30, 50)}, want: []int{0, -1, -1}},
		"a picture in the body":        {slots: []Slot{busy(0, 7, 50, 900, 3), busy(1, 8, 50, 90, 3)}, reqs: []*live{with(stream(1, 10, 20, 50), func(r *live) { r.bytes = 400 }), with(stream(2, 11, 21, 50), func(r *live) { r.bytes = 900_000 })}, want: []int{-1, -1}},
		"not known to have begun":      {slots: []Slot{busy(0, 7, 50, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50), stream(2, 11, 0, 50)}, want: []int{0, -1}},
		"two that may have begun":      {slots: []Slot{busy(0, 7, 50, 9, 3)}, reqs: []*live{stream(1, 10, 0, 50), stream(2, 11, 0, 50)}, want: []int{-1, -1}},
		"one that may have begun":      {slots: []Slot{busy(0, 7, 50, 9, 3)}, reqs: []*live{stream(1, 10, 0, 50)}, want: []int{0}},
		"stream and not":               {slots: []Slot{{ID: 0, Busy: true, Task: meter.Some(7), Streams: meter.Some(0)}, busy(1, 8, 50, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50), {key: 2, sent: 9, slot: -1}}, want: []int{1, 0}},
		"three, told apart in a chain": {slots: []Slot{busy(0, 7, 50, 9, 3), busy(1, 8, 50, 9, 3), busy(2, 9, 20, 9, 3)}, reqs: []*live{stream(1, 10, 20, 50), stream(2, 25, 30, 50), with(stream(3, 25, 30, 50), func(r *live) { r.maxTokens = meter.Int{} })}, want: []int{0, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			match(c.slots, c.reqs, c.seen, c.seenAt)
			for i, r := range c.reqs {
				if r.slot != c.want[i] {
					t.Errorf("request %d is taken to be in slot %d, want %d", r.key, r.slot, c.want[i])
				}
			}
		})
	}
}

// TestParse: the shapes that builds have had, and what is no such reply.
func TestParse(t *testing.T) {
	got, err := Parse([]byte(`[{"id":0,"is_processing":false},{"id":1,"is_processing":true,"id_task":5,"n_prompt_tokens":9,
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
		if s, err := Parse([]byte(body)); err == nil {
			t.Errorf("%s was read as %+v", body, s)
		}
	}
}

// BenchmarkMatch: 128 requests alike on 128 slots, the worst there is.
func BenchmarkMatch(b *testing.B) {
	for b.Loop() {
		var all []Slot
		var reqs []*live
		for i := range 128 {
			all = append(all, busy(i, int64(i), 50, 9, 3))
			reqs = append(reqs, stream(uint64(i+1), int64(i), int64(i+2), 50))
		}
		match(all, reqs, 0, 0)
	}
}
