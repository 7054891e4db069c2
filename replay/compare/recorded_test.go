package compare

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"wattline/replay"
	"wattline/replay/replaytest"
	"wattline/replay/twin"
)

// traced is a made-up run of a trace, whose requests have very different sizes: the same in each run.
func traced(label string, seed uint64, slower float64, proof *twin.Proof) *Side {
	r := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{500}, OutputTokens: replay.Sizes{64}, Trials: 1, Requests: 80})
	r.Plan.Recording = &replay.Recording{File: "week.jsonl", SHA256: "abc", Speed: 1, Sent: 80}
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
