package compare

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/replaytest"
)

// run is a made-up run of two cells and trials with noise; slower multiplies every time.
func run(seed uint64, trials int, slower float64) *replay.Run {
	r := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{500, 1000}, OutputTokens: replay.Sizes{64}, Trials: trials, Requests: 4})
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, e := range r.Exchanges {
		f := slower * math.Exp(0.005*rng.NormFloat64())
		for _, v := range []*meter.Int{&e.TTFTUs, &e.TTFOUs, &e.LastUs, &e.EndUs} {
			v.V = int64(float64(v.V) * f)
		}
		e.PromptMs.V *= f
		if e.InLine != nil {
			e.InLine.GPUUj.V = int64(float64(e.InLine.GPUUj.V) * f)
		}
	}
	return r
}

func verdicts(r *Result) string {
	var out []string
	for _, m := range r.Metrics {
		out = append(out, m.Key+": "+string(m.Verdict))
	}
	return strings.Join(out, "; ")
}

func metricOf(t *testing.T, r *Result, key string) Metric {
	t.Helper()
	i := slices.IndexFunc(r.Metrics, func(m Metric) bool { return m.Key == key })
	if i < 0 {
		t.Fatalf("no %s in %s", key, verdicts(r))
	}
	return r.Metrics[i]
}

func compared(t *testing.T, a, b *Side) *Result {
	t.Helper()
	r, err := Compare(a, b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFolders: runs that were made one after the other.
func TestFolders(t *testing.T) {
	a := FromRun("a", run(1, 6, 1))
	slow := compared(t, a, FromRun("b", run(2, 6, 1.1)))
	for _, key := range []string{"ttft", "decode", "e2e"} {
		if m := metricOf(t, slow, key); m.Verdict != Worse || !(m.P.V < alpha) || !m.Floor.Valid {
			t.Errorf("10 %% slower: %+v", m)
		}
	}
	if m := metricOf(t, slow, "ttft"); !(m.Effect.Low.V < 10 && 10 < m.Effect.High.V) || len(m.Cells) != 2 {
		t.Errorf("ttft: %+v", m)
	}
	if m := metricOf(t, slow, "vram"); m.Verdict != Same || m.Effect.Percent.V != 0 {
		t.Errorf("the same memory: %+v", m)
	}
	same := compared(t, a, FromRun("b", run(3, 6, 1)))
	for _, m := range same.Metrics {
		if m.Verdict != Same {
			t.Errorf("nothing changed: %s", verdicts(same))
			break
		}
	}
	if s := strings.Join(slow.Lines(), "\n"); !strings.Contains(s, "not measured in turn") {
		t.Errorf("no word on the order: %s", s)
	}
	fast := compared(t, FromRun("a", run(2, 6, 1.1)), a)
	if m := metricOf(t, fast, "ttft"); m.Verdict != Better {
		t.Errorf("10 %% faster: %+v", m)
	}
}

// TestOneTrial: one trial has no spread; nothing is invented.
func TestOneTrial(t *testing.T) {
	r := compared(t, FromRun("a", run(1, 1, 1)), FromRun("b", run(2, 5, 1.3)))
	for _, m := range r.Metrics {
		if m.Verdict != CannotTell || m.Effect.Low.Valid || m.P.Valid || !strings.Contains(m.Why, "one trial") {
			t.Errorf("%+v", m)
		}
	}
	if s := strings.Join(r.Lines(), "\n"); !strings.Contains(s, "measure at least 2") {
		t.Error(s)
	}
}

// TestDifferentWorkloads: what was not asked alike is not compared.
func TestDifferentWorkloads(t *testing.T) {
	a := FromRun("a", run(1, 3, 1))
	other := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{4000}, OutputTokens: replay.Sizes{64}, Trials: 3})
	loaded := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{500, 1000}, OutputTokens: replay.Sizes{64}, Trials: 3, Concurrency: 2})
	for what, b := range map[string]*Side{"cells": FromRun("b", other), "load": FromRun("b", loaded), "rows": FromRows("b", nil)} {
		if _, err := Compare(a, b, Options{}); err == nil {
			t.Errorf("other %s: no error", what)
		}
	}
	some := replaytest.Run(replay.Spec{PromptSizes: replay.Sizes{500}, OutputTokens: replay.Sizes{64}, Trials: 3, Requests: 4})
	r := compared(t, a, FromRun("b", some))
	if s := strings.Join(r.Notes, "\n"); !strings.Contains(s, "only in A") {
		t.Errorf("a cell of A alone: %s", s)
	}
}

// TestMissingJoules: a cell in which many requests have no joules does not count for them, as those that have them would be
// a choice.
func TestMissingJoules(t *testing.T) {
	a, b := run(1, 6, 1), run(2, 6, 1)
	for _, e := range b.Exchanges {
		if e.Key.Cell == 0 && e.Index%2 == 0 {
			e.InLine.GPUUj = meter.Int{}
		}
	}
	m := metricOf(t, compared(t, FromRun("a", a), FromRun("b", b)), "j_per_token")
	if len(m.Cells) != 0 || m.Verdict == NotMeasured {
		t.Errorf("one cell is left: %+v", m)
	}
	for _, e := range b.Exchanges {
		e.InLine.GPUUj = meter.Int{}
	}
	if m := metricOf(t, compared(t, FromRun("a", a), FromRun("b", b)), "j_per_token"); m.Verdict != NotMeasured || m.B.Valid {
		t.Errorf("no joules: %+v", m)
	}
}

// TestFloor: where A differs from itself, an effect of that size is none, however sure it is.
func TestFloor(t *testing.T) {
	levels := func(shift float64) *design {
		d := &design{weights: []float64{1}}
		for s := range d.y {
			for range 6 {
				d.y[s] = append(d.y[s], [][]float64{{shift * float64(s)}})
			}
		}
		return d
	}
	e := levels(0.05).estimate(100, 1)
	m := &Metric{P: replay.Some(0), PSame: replay.Some(1), LowerBetter: true, Floor: replay.Some(6)}
	p := &pairing{opt: Options{Margin: 0.02}, trials: [2][]int{{0, 1, 2}, {0, 1, 2}}}
	if p.judge(m, &e, 1); m.Verdict != CannotTell || !strings.Contains(m.Why, "floor") {
		t.Errorf("inside the floor: %+v", m)
	}
	m.Floor = replay.Some(4)
	if p.judge(m, &e, 1); m.Verdict != Worse {
		t.Errorf("outside the floor: %+v", m)
	}
}

// TestDrift: a drift that is as large as ten margins is no effect of an interleaved session, and is told.
func TestDrift(t *testing.T) {
	a, b := session(5, 0, 10, 3, 3, noise{request: 0.004, drift: 0.2})
	r := compared(t, a, b)
	for _, m := range r.Metrics {
		if m.Verdict == NotMeasured {
			continue
		}
		want := 20.0
		if !m.LowerBetter {
			want = -18.0
		}
		if m.Verdict != Same || math.Abs(m.Drift.V-want) > 3 {
			t.Errorf("%s: %s, drift %v", m.Key, m.Verdict, m.Drift.V)
		}
	}
	if r.Design != interleaved || r.Units != 10 {
		t.Errorf("%s, %d", r.Design, r.Units)
	}
}

// TestHolm: the correction's own example, and that the order does not matter.
func TestHolm(t *testing.T) {
	got := holm([]float64{0.01, 0.04, 0.03, 0.005})
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		if math.Abs(got[i]-want) > 1e-12 {
			t.Errorf("%v", got)
		}
	}
}

// rows is natural traffic: prompts of some sizes, in a server that is slower by a factor. Times depend on sizes.
func rows(seed uint64, n int, prompt, spread, slower float64) (out []*meter.Record) {
	rng := rand.New(rand.NewPCG(seed, 3))
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for range n {
		at = at.Add(time.Duration(rng.ExpFloat64() * float64(time.Minute)))
		in := math.Exp(math.Log(prompt) + spread*rng.NormFloat64())
		output := math.Exp(math.Log(200) + 0.6*rng.NormFloat64())
		cached := 0.0
		if rng.IntN(2) == 0 {
			cached = in * 0.7
		}
		wobble := func() float64 { return math.Exp(0.03 * rng.NormFloat64()) }
		prefill := (30e3 + (in-cached)*200 + in*in*0.002) * wobble() * slower
		decode := (output - 1) * (10e3 + in*0.2) * wobble() * slower
		out = append(out, &meter.Record{
			StartedAt: at, Model: "m", Outcome: meter.OK, TTFTUs: meter.Some(int64(prefill + 500)), PrefillUs: meter.Some(int64(prefill)), DecodeUs: meter.Some(int64(decode)),
			DurationUs: meter.Some(int64(prefill + decode + 500)), PromptTokens: meter.Some(int64(in)), CachedTokens: meter.Some(int64(cached)), OutputTokens: meter.Some(int64(output)),
			MeanConcurrency: meter.Some(1000),
		})
	}
	return out
}

// TestNaturalMix: B has longer prompts than A and the same speed. No verdict but "same" or "cannot tell" may come of it, and
// a true difference is still found.
func TestNaturalMix(t *testing.T) {
	wrong, found := 0, 0
	const sessions = 10
	for seed := range uint64(sessions) {
		a := FromRows("a", rows(seed, 1500, 1500, 0.8, 1))
		r := compared(t, a, FromRows("b", rows(seed+100, 1500, 2500, 0.8, 1)))
		if r.Refusal != "" {
			t.Fatalf("refused: %s", r.Refusal)
		}
		if r.Has(Better) || r.Has(Worse) {
			wrong++
			t.Logf("seed %d: %s\n%s", seed, verdicts(r), metricOf(t, r, "ttft").Effect.Range())
		}
		slow := compared(t, a, FromRows("b", rows(seed+100, 1500, 2500, 0.8, 1.1)))
		if m := metricOf(t, slow, "ttft"); m.Verdict == Worse && m.Effect.Low.V < 10 && m.Effect.High.V > 10 {
			found++
		}
	}
	t.Logf("false verdicts in %d of %d sessions; 10 %% slower found in %d", wrong, sessions, found)
	if wrong > 1 || found < sessions*8/10 {
		t.Errorf("%d of %d sessions had a false verdict; 10 %% was found in %d", wrong, sessions, found)
	}
}

// TestNoOverlap: mixes that have little in common get a reason instead of a verdict.
func TestNoOverlap(t *testing.T) {
	r := compared(t, FromRows("a", rows(1, 300, 500, 0.3, 1)), FromRows("b", rows(2, 300, 20000, 0.3, 1)))
	if !strings.Contains(r.Refusal, "overlap") || !strings.Contains(r.Refusal, "prompt size") || len(r.Metrics) != 0 {
		t.Errorf("%q, %d metrics", r.Refusal, len(r.Metrics))
	}
	if few := compared(t, FromRows("a", rows(1, 300, 500, 0.3, 1)), FromRows("b", rows(2, 5, 500, 0.3, 1))); !strings.Contains(few.Refusal, "5 answered requests") {
		t.Errorf("five rows: %q", few.Refusal)
	}
}

// TestPrints: every form has every metric, and markup in a name stays text.
func TestPrints(t *testing.T) {
	r := compared(t, FromRun("a|b", run(1, 5, 1)), FromRun("<b>", run(2, 5, 1.1)))
	var term, md strings.Builder
	r.Terminal(&term)
	if err := r.Markdown(&md); err != nil {
		t.Fatal(err)
	}
	page, err := r.Page()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for form, s := range map[string]string{"terminal": term.String(), "Markdown": md.String(), "page": string(page), "JSON": string(text)} {
		for _, m := range r.shown() {
			if !strings.Contains(s, m.Title) || !strings.Contains(s, string(m.Verdict)) {
				t.Errorf("%s lacks %s, %s", form, m.Title, m.Verdict)
			}
		}
	}
	if strings.Contains(string(page), "<b> ") || strings.Count(string(page), "<circle") < len(r.shown()) {
		t.Error("the page has markup of a name, or lacks a mark")
	}
}

// TestDeterministic: the same data gives the same answer.
func TestDeterministic(t *testing.T) {
	text := func() string {
		r := compared(t, FromRows("a", rows(1, 400, 1500, 0.8, 1)), FromRows("b", rows(2, 400, 1500, 0.8, 1.05)))
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if a, b := text(), text(); a != b {
		t.Errorf("%s\n%s", a, b)
	}
}

func ExampleTurn() {
	for trial := range 8 {
		fmt.Print(name(map[bool]int{true: 1}[Turn(trial)]), " ")
	}
	// Output: A B B A A B B A
}

// TestTwoSessions: A of one interleaved session and B of another were not measured in turn.
func TestTwoSessions(t *testing.T) {
	half := func(seed uint64, b bool, later time.Duration) *Side {
		r := run(seed, 16, 1)
		r.Exchanges = slices.DeleteFunc(r.Exchanges, func(e *replay.Exchange) bool { return Turn(e.Trial) != b })
		for _, e := range r.Exchanges {
			e.StartedAt = e.StartedAt.Add(later)
		}
		return FromRun("", r)
	}
	if r := compared(t, half(1, false, 0), half(1, true, 0)); r.Design != interleaved || r.Units != 4 {
		t.Errorf("one session: %s, %d units", r.Design, r.Units)
	}
	for _, later := range []time.Duration{time.Hour, -time.Hour} {
		if r := compared(t, half(1, false, 0), half(2, true, later)); r.Design == interleaved {
			t.Errorf("two sessions, %s apart, were taken for one", later)
		}
	}
}
