package load

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/trace"
)

// recordedPlan is a plan of a trace with n records.
func recordedPlan(t *testing.T, n, most int) *replay.Plan {
	t.Helper()
	s, err := replay.Spec{Name: "trace", Trace: "made", Concurrency: most}.Complete(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := replay.CompileRecording(s, &replay.Recording{File: "made", Sent: n}, replay.Cell{Task: "made", PromptTokens: 100, OutputTokens: 10})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sendTrace sends records in fake time and returns when each was sent, after the first that could be, and the run.
func sendTrace(t *testing.T, srv *server, rec *Recording) (at []time.Duration, run *replay.Run) {
	t.Helper()
	if rec.Make == nil {
		rec.Make = func(i int, _ *Sent) *replay.Request {
			r := &rec.Records[i]
			return &replay.Request{Key: replay.Key{Index: i}, Cell: replay.Cell{Task: "made", PromptTokens: r.Input, OutputTokens: r.Output}}
		}
	}
	begin := time.Now()
	run, err := Run(t.Context(), Config{Plan: recordedPlan(t, len(rec.Records), rec.Most), Sender: srv, Prompts: texts{}, Recording: rec, NoWarmup: true, Slots: 4, Sleep: time.Sleep})
	if err != nil {
		t.Fatal(err)
	}
	at = make([]time.Duration, len(rec.Records))
	for i, r := range srv.sent {
		at[r.Index] = srv.at[i].Sub(begin) - openLead
	}
	return at, run
}

// TestRecorded: records are sent at their own moments; turns wait for the earlier turn and then for the think time.
func TestRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A request takes 100 ms of prompt and 90 ms of reply, or what it says.
		srv := &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}
		s := func(seconds float64) time.Duration { return time.Duration(seconds * 1e9) }
		one := func(at time.Duration, parent int, think meter.Int) trace.Record {
			return trace.Record{Offset: at, Input: 100, Output: 10, Parent: parent, ThinkUs: think}
		}
		none := meter.Int{}
		records := []trace.Record{
			one(0, -1, none),
			one(s(1), 0, meter.Some(400_000)),   // 0.19 s + 0.4 s
			one(s(1), -1, none),                 // its own moment
			one(s(1.1), 2, none),                // the parent ends at 1.19 s
			one(s(2), 3, none),                  // the parent has long ended
			one(s(2), 0, meter.Some(3_000_000)), // a second child
		}
		at, run := sendTrace(t, srv, &Recording{Records: records, Speed: 1})
		want := []time.Duration{0, s(0.59), s(1), s(1.19), s(2), s(3.19)}
		if !slices.Equal(at, want) {
			t.Errorf("sent at %v, want %v", at, want)
		}
		if len(run.Exchanges) != len(records) || len(run.Spans) != 1 {
			t.Errorf("%d exchanges, %d spans", len(run.Exchanges), len(run.Spans))
		}
		// Twice as fast: moments and think times are halved, the server is not.
		at, _ = sendTrace(t, &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}, &Recording{Records: records, Speed: 2})
		want = []time.Duration{0, s(0.39), s(0.5), s(0.69), s(1), s(1.69)}
		if !slices.Equal(at, want) {
			t.Errorf("at twice the speed sent at %v, want %v", at, want)
		}
	})
}

// TestRecordedShift: how much later than the trace a request was due is told, and is not the client's lateness.
func TestRecordedShift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}
		var records []trace.Record
		for i := range 6 {
			records = append(records, trace.Record{Offset: time.Duration(i) * 10 * time.Millisecond, Input: 100, Output: 10, Parent: -1})
		}
		var shifts []int64
		rec := &Recording{Records: records, Speed: 1, Most: 2}
		made := map[int]*replay.Request{}
		rec.Make = func(i int, _ *Sent) *replay.Request {
			made[i] = &replay.Request{Key: replay.Key{Index: i}, Cell: replay.Cell{Task: "made", PromptTokens: 100, OutputTokens: 10}}
			return made[i]
		}
		at, run := sendTrace(t, srv, rec)
		for i := range records {
			shifts = append(shifts, made[i].ShiftUs.V/1000)
		}
		if got := fmt.Sprint(at, shifts); got != "[0s 10ms 190ms 200ms 380ms 390ms] [0 0 170 170 340 340]" {
			t.Errorf("sent at, and shifted by: %s", got)
		}
		if srv.most != 2 {
			t.Errorf("%d in flight, at most 2 may be", srv.most)
		}
		for _, e := range run.Exchanges {
			if e.LagUs != meter.Some(0) {
				t.Errorf("request %d: late by %v us, though it was only held back", e.Index, e.LagUs)
			}
		}
	})
}

// TestRecordedQueue: two places that become free at once go to the requests that were due first, roots and children
// alike, and none of them is the client's lateness.
func TestRecordedQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Millisecond, gap: 10 * time.Millisecond} // 190 ms each
		ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
		one := func(at, parent int, think meter.Int) trace.Record {
			return trace.Record{Offset: ms(at), Input: 100, Output: 10, Parent: parent, ThinkUs: think}
		}
		records := []trace.Record{
			one(0, -1, meter.Int{}), one(0, -1, meter.Int{}), // both end at 190 ms
			one(10, -1, meter.Int{}), one(20, -1, meter.Int{}), // get both places
			one(300, 0, meter.Some(100_000)), // due at 290 ms
			one(300, -1, meter.Int{}), one(310, -1, meter.Int{}),
		}
		at, run := sendTrace(t, srv, &Recording{Records: records, Speed: 1, Most: 2})
		if want := []time.Duration{0, 0, ms(190), ms(190), ms(380), ms(380), ms(570)}; !slices.Equal(at, want) {
			t.Errorf("sent at %v, want %v", at, want)
		}
		for _, e := range run.Exchanges {
			if e.LagUs != meter.Some(0) {
				t.Errorf("request %d: late by %v us, though it was only held back", e.Index, e.LagUs)
			}
		}
		// A child that is due later does not overtake roots.
		records[4].ThinkUs = meter.Some(150_000) // due at 340 ms
		at, _ = sendTrace(t, &server{perToken: time.Millisecond, gap: 10 * time.Millisecond}, &Recording{Records: records, Speed: 1, Most: 2})
		if want := []time.Duration{0, 0, ms(190), ms(190), ms(570), ms(380), ms(380)}; !slices.Equal(at, want) {
			t.Errorf("sent at %v, want %v", at, want)
		}
	})
}

// TestRecordedDeadlines: 10,000 records at 20 times their speed end when the schedule says, to the microsecond: no delay
// adds up.
func TestRecordedDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{perToken: time.Microsecond, gap: time.Microsecond}
		records := make([]trace.Record, 10_000)
		for i := range records {
			records[i] = trace.Record{Offset: time.Duration(i) * 33_333_333, Input: 100, Output: 10, Parent: -1}
		}
		at, run := sendTrace(t, srv, &Recording{Records: records, Speed: 20})
		for i, got := range at {
			if want := time.Duration(float64(records[i].Offset) / 20); got != want {
				t.Fatalf("record %d was sent at %v, want %v", i, got, want)
			}
		}
		if len(run.Exchanges) != len(records) {
			t.Errorf("%d exchanges", len(run.Exchanges))
		}
	})
}
