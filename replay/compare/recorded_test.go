package compare

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"wattline/replay"
	"wattline/replay/replaytest"
	"wattline/replay/twin"
)

// traced is a made-up run of a trace, whose requests have very different sizes: the same in each run.
func traced(label string, seed uint64, slower float64, proof *twin.Proof) *Side {
	r := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{500}, OutputTokens: replay.Sizes{64}, Trials: 1, Requests: 80})
	r.Plan.Recording = &replay.Recording{File: "week.jsonl", SHA256: "abc", Speed: 1, Sample: 1, Sent: 80, Measured: true}
	sizes, rng := rand.New(rand.NewPCG(9, 9)), rand.New(rand.NewPCG(seed, 1))
	for _, e := range r.Exchanges {
		f := math.Exp(sizes.NormFloat64()) * slower * math.Exp(0.02*rng.NormFloat64())
		e.TTFTUs.V, e.EndUs.V = int64(float64(e.TTFTUs.V)*f), int64(float64(e.EndUs.V)*f)
		if e.InLine != nil {
			e.InLine.TTFTUs, e.InLine.GPUUj.V = e.TTFTUs, int64(float64(e.InLine.GPUUj.V)*f)
		}
	}
	s := FromRun(label, r)
	s.Proof = proof
	return s
}

// TestTwinMustBeProven: two runs of one trace are compared request by request, and only if the twin reproduced the recording.
func TestTwinMustBeProven(t *testing.T) {
	passed := &twin.Proof{Trace: "abc", Passed: true, Joules: true}
	for _, c := range []struct {
		name    string
		a, b    *twin.Proof
		refused string
	}{
		{"never", nil, nil, "never proven"},
		{"of another trace", &twin.Proof{Trace: "def", Passed: true}, nil, "never proven"},
		{"failed", &twin.Proof{Trace: "abc", Why: []string{"TTFT, median: +30 %"}}, nil, "failed its A/A test, so it may not judge; A: TTFT, median: +30 %"},
		{"A is as recorded", passed, &twin.Proof{Trace: "abc", Why: []string{"slots was 4 and is 2"}}, ""},
		{"B is as recorded", nil, passed, ""},
	} {
		r := compared(t, traced("a", 1, 1, c.a), traced("b", 2, 1.1, c.b))
		if c.refused == "" != (r.Refusal == "") || !strings.Contains(r.Refusal, c.refused) || r.Refusal != "" && (len(r.Metrics) > 0 || r.Price != nil) {
			t.Errorf("%s: %q, %d metrics", c.name, r.Refusal, len(r.Metrics))
		}
	}
	r := compared(t, traced("a", 1, 1, passed), traced("b", 2, 1.1, nil))
	if m := metricOf(t, r, "ttft"); m.Verdict != Worse || !(m.Effect.Low.V > 8 && m.Effect.High.V < 12) {
		t.Errorf("10 %% slower, in pairs: %+v", m)
	}
	lines := strings.Join(r.Lines(), "\n")
	for _, want := range []string{"TTFT, p90: ", "joules of all requests: ", "stretches of requests"} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in %s", want, lines)
		}
	}
	if r := compared(t, traced("a", 1, 1, passed), traced("b", 3, 1, nil)); r.Has(Worse) || r.Has(Better) {
		t.Errorf("nothing changed: %s", verdicts(r))
	}
	noJoules := compared(t, traced("a", 1, 1, &twin.Proof{Trace: "abc", Passed: true}), traced("b", 2, 1.1, nil))
	if m := metricOf(t, noJoules, "j_per_token"); m.Verdict != NotMeasured {
		t.Errorf("joules that were not proven: %+v", m)
	}
	if lines := strings.Join(noJoules.Lines(), "\n"); !strings.Contains(lines, "joules of all requests: no verdict") {
		t.Error(lines)
	}
}

// TestPublicTraces: a trace without measurements cannot be proven, and is compared nevertheless.
func TestPublicTraces(t *testing.T) {
	a, b := traced("a", 1, 1, nil), traced("b", 2, 1.1, nil)
	a.measured, b.measured = false, false
	r := compared(t, a, b)
	if m := metricOf(t, r, "ttft"); r.Refusal != "" || r.Price == nil || m.Verdict != Worse || metricOf(t, r, "j_per_token").Verdict == NotMeasured || !strings.Contains(strings.Join(r.Notes, "\n"), "has no measurements") {
		t.Errorf("refused %q, %+v, notes %q", r.Refusal, m, r.Notes)
	}
}

// TestSelectionsOfTraces: the first request of one window is not that of another.
func TestSelectionsOfTraces(t *testing.T) {
	of := func(change func(*replay.Recording)) *Side {
		r := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{500}, OutputTokens: replay.Sizes{64}, Trials: 1, Requests: 20})
		r.Plan.Recording = &replay.Recording{File: "week.jsonl", SHA256: "abc", Speed: 1, Sample: 1, Sent: 20}
		change(r.Plan.Recording)
		return FromRun("a", r)
	}
	whole := of(func(*replay.Recording) {})
	for said, change := range map[string]func(*replay.Recording){
		"from 600 s to its end":                    func(r *replay.Recording) { r.FromS = replay.Some(600) },
		"from 0 s to 600 s":                        func(r *replay.Recording) { r.FromS, r.ToS = replay.Some(0), replay.Some(600) },
		"5 % of the sessions by seed":              func(r *replay.Recording) { r.Sample = 0.05 },
		"2 left out and 0 changed to fit the cont": func(r *replay.Recording) { r.Fit, r.Dropped = "drop", 2 },
	} {
		if _, err := Compare(whole, of(change), Options{}); !errors.Is(err, ErrWorkloads) || !strings.Contains(err.Error(), said) {
			t.Errorf("%s: %v", said, err)
		}
	}
}

// TestFewRequestsOfATrace: 12 requests are one stretch, which has no spread.
func TestFewRequestsOfATrace(t *testing.T) {
	passed := &twin.Proof{Trace: "abc", Passed: true}
	a, b := traced("a", 1, 1, passed), traced("b", 2, 1.1, nil)
	for _, s := range []*Side{a, b} {
		s.observations = slices.DeleteFunc(s.observations, func(o observation) bool { return o.record >= 12 })
	}
	if m := metricOf(t, compared(t, a, b), "ttft"); m.Verdict != CannotTell || m.Why != "one stretch of 8 requests has no spread: send at least 16 requests" {
		t.Errorf("%s: %s", m.Verdict, m.Why)
	}
}
