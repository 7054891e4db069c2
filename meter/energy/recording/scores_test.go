package recording

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"wattline/meter/energy"
)

// TestScores prints how far the ledger is off on the real recordings, one line "score NAME VALUE" a figure.
// The ablation test (meter/energy/ablation_test.go) runs it with one mechanism after the other switched off, and
// may name the only figures that it needs in SCORES_ONLY.
func TestScores(t *testing.T) {
	only := strings.Fields(os.Getenv("SCORES_ONLY"))
	skip := func(of string) bool { return len(only) > 0 && !slices.Contains(only, of) }
	for _, dir := range []string{"coalitions", "first", "even", "short", "unified"} {
		r := readDir(t, "../../../gpu/testdata/h100-"+dir)
		for _, in := range inputs {
			if skip(dir + in.name) {
				continue
			}
			shares, coverage := scoreShares(t, r, in)
			var worst float64
			for i := range shares {
				worst = max(worst, math.Abs(shares[i].Off(shares[i].Phase)))
			}
			score(t, dir+in.name+"/rms", 100*RMS(shares, func(s *Share) float64 { return s.Phase }))
			score(t, dir+in.name+"/worst", 100*worst)
			score(t, dir+in.name+"/coverage", 100*coverage)
		}
	}
	for _, dir := range []string{"agents2", "agents3"} {
		if !skip(dir) {
			scoreAgents(t, dir)
		}
	}
	if !skip("alone-ring") || !skip("alone-counter") || !skip("alone-average") {
		scoreLone(t)
	}
}

func score(t *testing.T, name string, v float64) {
	t.Helper()
	t.Logf("score %s %.3f", name, v)
}

// inputs are the ways to feed a recording to a ledger.
var inputs = []struct {
	name    string
	sources Sources
	thin    func([]Reading) []Reading
}{
	{"", Best, nil},                              // ring and counter as recorded
	{"-placed", Best, thin(true)},                // the counter read once a second, its steps placed
	{"-unplaced", Best, thin(false)},             // the counter read once a second, nothing else known
	{"-counter", CounterOnly, nil},               // the counter alone as recorded
	{"-counter-unplaced", CounterOnly, unplaced}, // as polled
	{"-counter-slow", CounterOnly, thin(false)},  // read once a second
}

// unplaced withholds where the steps were.
func unplaced(readings []Reading) []Reading {
	out := slices.Clone(readings)
	for i := range out {
		out[i].Lo, out[i].Hi = 0, 0
	}
	return out
}

// thin keeps one counter reading a second. Other gauges stay as they are.
func thin(placed bool) func([]Reading) []Reading {
	return func(readings []Reading) []Reading {
		out := slices.Clone(readings)
		var last *Reading
		var lo, hi, kept int64
		for i := range out {
			r := &out[i]
			if !r.HasEnergy {
				continue
			}
			if before := last; before != nil && before.EnergyUJ != r.EnergyUJ {
				lo, hi = before.After, r.Before
				if r.Lo > 0 && r.Hi > r.Lo {
					lo, hi = r.Lo, r.Hi
				}
			}
			copied := readings[i]
			last = &copied
			r.Lo, r.Hi = 0, 0
			if r.After-kept < int64(time.Second) {
				r.HasEnergy = false
				continue
			}
			kept = r.After
			if placed && hi > lo {
				r.Lo, r.Hi = lo, hi
			}
		}
		return out
	}
}

// scoreShares returns the shares and how many of the runs have the measured share inside their 95 % interval,
// the error of the share itself included.
func scoreShares(t *testing.T, r *recording, in struct {
	name    string
	sources Sources
	thin    func([]Reading) []Reading
}) ([]Share, float64) {
	t.Helper()
	fed := &recording{Traffic: r.Traffic, Device: r.Device}
	if in.thin != nil {
		fed.Readings = in.thin(r.Readings)
	}
	got, _ := attribute(t, fed, in.sources, 0)
	shares, err := Coalitions(&r.Device, r.Traffic, got)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]*Share{}
	for i := range shares {
		of[shares[i].Coalition+shares[i].Who] = &shares[i]
	}
	inside, n := 0.0, 0.0
	for i := range r.Requests {
		q := &r.Requests[i]
		name, _, ok := strings.Cut(q.Tag, "/")
		s := of[name+q.Who]
		if !ok || s == nil {
			continue
		}
		n++
		if off := activeJ(&got[i]) - s.True; math.Abs(off) <= 1.96*math.Hypot(float64(got[i].ActiveSigmaUJ)/1e6, s.Error) {
			inside++
		}
	}
	return shares, inside / n
}

// scoreAgents scores requests of agents, a fifth of which were cut off, with the looks at the server's slots.
func scoreAgents(t *testing.T, dir string) {
	t.Helper()
	path := "../../../gpu/testdata/h200-" + dir
	r := readDir(t, path)
	l := energy.New(r.Config(Best))
	FeedTraffic(l, l.AddUpstream(energy.Coefficients{}, false), &r.Device, r.Traffic, 0, nil)
	got := make([]energy.Result, len(r.Requests))
	for x, ok := l.Next(); ok; x, ok = l.Next() {
		got[x.Request-1] = x
	}
	f, err := os.Open(path + "/truth.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	truth, err := ReadTruth(f, r.Traffic)
	if err != nil {
		t.Fatal(err)
	}
	ruler, err := NewRuler(&r.Device, r.Traffic, truth)
	if err != nil {
		t.Fatal(err)
	}
	s := ruler.Score(Methods[0], "", ruler.Answers(Methods[0], got))
	score(t, dir+"/rms", 100*s.RMS)
	score(t, dir+"/coverage", 100*s.Coverage)
}

// scoreLone scores requests that ran alone: their totals against the counter, by source.
func scoreLone(t *testing.T) {
	t.Helper()
	r := read(t)
	idle := r.idleWatts()
	for _, s := range []struct {
		name    string
		sources Sources
	}{{"ring", Best}, {"counter", CounterOnly}, {"average", AverageOnly}} {
		got, _ := attribute(t, r, s.sources, time.Second)
		var sum, worst, inside, n float64
		for i := range r.Requests {
			q := &r.Requests[i]
			if !strings.HasPrefix(q.Tag, "serial") {
				continue
			}
			want := r.lone(q, idle)
			off := float64(got[i].TotalUJ)/1e6/want - 1
			sum, worst, n = sum+off*off, max(worst, math.Abs(off)), n+1
			if math.Abs(off)*want*1e6 <= 1.96*float64(got[i].SigmaUJ) {
				inside++
			}
		}
		score(t, "alone-"+s.name+"/rms", 100*math.Sqrt(sum/n))
		score(t, "alone-"+s.name+"/worst", 100*worst)
		score(t, "alone-"+s.name+"/coverage", 100*inside/n)
	}
}
