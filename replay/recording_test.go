package replay

import (
	"strings"
	"testing"
	"time"

	"wattline/meter"
)

// TestRecording: runs of one trace have one plan whatever their texts' salt; a late run is marked; a request that was
// cancelled as in the trace is neither answered nor an error.
func TestRecording(t *testing.T) {
	spec, err := Spec{Name: "trace", Trace: "a.jsonl"}.Complete(nil)
	if err != nil || spec.Concurrency != 0 || spec.Cache != Natural {
		t.Fatalf("%+v %v", spec, err)
	}
	plan := func(r Recording) *Plan {
		p, err := CompileRecording(spec, &r, Cell{Task: "a.jsonl", PromptTokens: 10, OutputTokens: 2})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	one := plan(Recording{File: "a.jsonl", SHA256: "1", Speed: 1, Sent: 100, Salt: 1})
	if one.Hash != plan(Recording{File: "a.jsonl", SHA256: "1", Speed: 1, Sent: 100, Salt: 2}).Hash {
		t.Error("the salt of the texts is part of the plan")
	}
	if one.Hash == plan(Recording{File: "a.jsonl", SHA256: "1", Speed: 2, Sent: 100, Salt: 1}).Hash {
		t.Error("the speed is not part of the plan")
	}
	run := &Run{Plan: one}
	for i := range 100 {
		run.Exchanges = append(run.Exchanges, &Exchange{
			Key: Key{Index: i}, Cell: one.Cells[0], Status: 200, LagUs: meter.Some(100), ShiftUs: meter.Some(int64(1000 * i)), TTFTUs: meter.Some(5000),
			StartedAt: time.Unix(int64(i), 0), OutputTokens: meter.Some(2),
		})
	}
	run.Exchanges[7].Cancelled = true
	schedule := func() Check { return run.Check()[0] }
	if c := schedule(); c.Name != "schedule" || c.State != Passed || !strings.HasPrefix(c.Detail, "0 of 100 requests were sent") {
		t.Errorf("in time: %+v", c)
	}
	if r := run.Results(); r.Errors != 0 || r.Cancelled != 1 || r.PromptsTested != 99 || r.Cells[0].Errors != 0 || r.Latency.Shift.Max.V != 99 {
		t.Errorf("%d errors, %d cancelled, %d answered, shifted by up to %v ms", r.Errors, r.Cancelled, r.PromptsTested, r.Latency.Shift.Max)
	}
	for i := range 2 {
		run.Exchanges[i].LagUs = meter.Some(50_000)
	}
	if c := schedule(); c.State != Failed || !strings.Contains(c.Detail, "2 of 100 requests were sent more than 10 ms after their time, the latest 50 ms") {
		t.Errorf("late: %+v", c)
	}
	for _, bad := range []Spec{{Trace: "a", Rate: 1}, {Trace: "a", Trials: 3}, {Trace: "a", Cache: Cold}, {Trace: "a", Length: NaturalLength}, {Trace: "a", PromptSizes: Sizes{5}}} {
		if _, err := bad.Complete(nil); err == nil || !strings.Contains(err.Error(), "leave out") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
