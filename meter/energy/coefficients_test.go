package energy

import (
	"encoding/json"
	"math"
	"testing"
)

// A ledger continues with saved coefficients, and an imported baseline divides active from idle energy at once.
func TestSavedCoefficients(t *testing.T) {
	text, err := json.Marshal(known())
	if err != nil {
		t.Fatal(err)
	}
	var c Coefficients
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	l := New(Config{Baseline: Baseline{BaseMW: 110_000, SlopeMW: 700, RefC: 40, SigmaMW: 400, Windows: 200}, NoCounter: true})
	u := l.AddUpstream(c, false)
	got := l.Coefficients(u)
	got.Rho, got.PromptSpeed = math.Round(got.Rho*1e6)/1e6, math.Round(got.PromptSpeed*1e3)/1e3
	if got != c {
		t.Errorf("coefficients came back as\n%+v, want\n%+v", got, c)
	}
	l.Event(Event{Kind: Temperature, At: 1, MilliC: 50_000})
	l.Event(Event{Kind: Arrive, Request: 1, Upstream: u, At: 1e9, PromptHint: 4000})
	l.Event(Event{Kind: SlotStart, Request: 1, At: 1e9})
	l.Event(Event{Kind: FirstToken, Request: 1, At: 1200 * ms})
	for at := int64(900 * ms); at < 4e9; at += 20 * ms {
		l.Power(at, 217_000)
	}
	l.Event(Event{Kind: End, Request: 1, At: 2e9, Counts: Counts{Known: true, PromptTokens: 1000, OutputTokens: 100}})
	l.Close(4e9)
	r, ok := l.Next()
	if !ok || !r.Split {
		t.Fatalf("active and idle are not told apart: %+v", r)
	}
	// 110 W and 0.7 W a degree, from 40 to the 50 degrees shown less the load's own 2.5.
	if w := float64(r.IdleUJ) / 1e6; w < 114 || w > 117.5 {
		t.Errorf("a second of idle draw is %.1f J, want about 115", w)
	}
}

// Learning from windows of known cost finds the coefficients, however they are mixed.
func TestFit(t *testing.T) {
	var f fit
	f.start([unknowns]float64{440_000, 320_000, 37_000}, 0, 0)
	want := [unknowns]float64{90_000, 200_000, 11_000}
	for i := range 400 {
		n := float64(1 + i%7)
		x := [unknowns]float64{100, 100 * n, 100 * n * float64(1+i%13)}
		f.observe(x, dot(x, want), 0)
	}
	for i := range want {
		if f.coef[i] < 0.97*want[i] || f.coef[i] > 1.03*want[i] {
			t.Errorf("coefficient %d is %.0f, want %.0f", i, f.coef[i], want[i])
		}
	}
	if f.relError() > 0.03 {
		t.Errorf("rho is %.3f of an exact model", f.relError())
	}
}

// One request at a time shows only the sum of a step's and a token's cost: the proportions stay those of the prior,
// and no coefficient becomes negative.
func TestFitPrior(t *testing.T) {
	var f fit
	f.start([unknowns]float64{440_000, 320_000, 37_000}, 0, 0)
	for range 50 {
		f.observe([unknowns]float64{100, 100, 100}, 100*2*(440_000+320_000+37_000), 0)
	}
	if r := f.coef[0] / f.coef[1]; r < 1.2 || r > 1.6 {
		t.Errorf("a step costs %.2f times a token, the prior says 1.38", r)
	}
	if sum := f.coef[0] + f.coef[1] + f.coef[2]; sum < 1_570_000 || sum > 1_620_000 {
		t.Errorf("their sum is %.0f, want 1594000", sum)
	}
}

func TestNonNegative(t *testing.T) {
	var n normal
	// y = 3 x0 - 2 x1 would fit exactly; with no negative unknown x0 alone fits best.
	for i := range 10 {
		x := [unknowns]float64{float64(i + 1), float64(i * i % 7)}
		n.add(x, 3*x[0]-2*x[1], 1)
	}
	theta := n.nonNegative()
	if theta[0] <= 0 || theta[1] != 0 || theta[2] != 0 {
		t.Errorf("solution %v", theta)
	}
}
