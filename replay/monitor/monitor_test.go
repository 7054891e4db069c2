package monitor

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// months simulates canaries without a change, with noise that is not normal, and returns how many alarms there were.
func months(n int) int {
	var mu sync.Mutex
	var wg sync.WaitGroup
	alarms := 0
	next := make(chan uint64, n)
	for i := range n {
		next <- uint64(i)
	}
	close(next)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range next {
				rng := rand.New(rand.NewPCG(seed, 9))
				var d [3]Detector
				for i := range d {
					d[i].limit = Limit(len(d), PerMonth)
				}
				found := 0
				for range PerMonth {
					for i := range d {
						v := 0.02 * rng.NormFloat64()
						if rng.IntN(20) == 0 {
							v += 0.3 * rng.ExpFloat64() // a slow look
						}
						if d[i].Add(v) != nil {
							found++
						}
					}
				}
				mu.Lock()
				alarms += found
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return alarms
}

// TestFalseAlarms: as many as stated, within chance.
func TestFalseAlarms(t *testing.T) {
	const n = 30
	if a := months(n); a < n/4 || a > 2*n {
		t.Errorf("%d false alarms in %d months, want about one a month", a, n)
	}
}

func TestFalseAlarmsSoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("1,000 months: set WATTLINE_SOAK=1")
	}
	a := months(1000)
	t.Logf("%d false alarms in 1,000 months of three metrics", a)
	if a < 600 || a > 1200 {
		t.Errorf("%d false alarms in 1,000 months, want about one a month", a)
	}
}

// foundWithin is how many canaries a 5 % slowdown takes to be found at 2 % of noise, in all but one of twenty cases.
const foundWithin = 12

// TestFinds: a slowdown of 5 % behind a week is found soon, at the right moment, and once.
func TestFinds(t *testing.T) {
	var took []int
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		d := Detector{limit: Limit(3, PerMonth)}
		for range 7 * 24 * 4 {
			d.Add(0.02 * rng.NormFloat64())
		}
		for i := 1; i <= 100; i++ {
			if c := d.Add(math.Log(1.05) + 0.02*rng.NormFloat64()); c != nil && c.Ratio > 1 {
				took = append(took, i)
				if math.Abs(c.Ratio-1.05) > 0.06 || c.Behind > i+20 {
					t.Errorf("seed %d: %+v after %d", seed, c, i)
				}
				break
			}
		}
	}
	slices.Sort(took)
	if len(took) < 100 {
		t.Fatalf("found in %d of 100", len(took))
	}
	t.Logf("found after %d canaries (median), %d in 95 of 100, %d at most", took[50], took[94], took[99])
	if took[94] > foundWithin {
		t.Errorf("95 of 100 took up to %d canaries", took[94])
	}
}

func canaryLine(i int, ms float64, config string, temp float64) *Line {
	l := &Line{At: time.Date(2026, 11, 1, 0, 15*i, 0, 0, time.UTC), Kind: Canary, Requests: 3, TTFTMs: replay.Some(ms), DecodeTPS: replay.Some(100), ConfigID: config, TempC: replay.Some(temp)}
	l.score()
	return l
}

// TestCauses: the alarm names what changed at the same time, and since when.
func TestCauses(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	at := func(i int, f func(*Line)) *Line {
		slow := 1.0
		if i >= 100 {
			slow = 1.2
		}
		l := canaryLine(i, 200*slow*math.Exp(0.01*rng.NormFloat64()), "aaaa", 60)
		if i >= 100 {
			f(l)
		}
		return l
	}
	for want, f := range map[string]func(*Line){
		"--threads=1 became --threads=4":           func(l *Line) { l.ConfigID = "bbbb" },
		"from 60 to 85 °C":                         func(l *Line) { l.TempC = replay.Some(85) },
		"the device throttles":                     func(l *Line) { l.Throttled = replay.Some(2) },
		"another process computes on the device":   func(l *Line) { l.Contended = 2 },
		"nothing that is recorded changed with it": func(*Line) {},
	} {
		s := NewState(Canary, nil, func(id string) string {
			return map[string]string{"aaaa": "model=m --threads=1", "bbbb": "model=m --threads=4"}[id]
		})
		said := ""
		for i := 0; i < 130 && said == ""; i++ {
			l := at(i, f)
			s.Take(l)
			for _, a := range l.Alarms {
				said = a.Text()
				if since := l.At.Sub(a.Since); !a.Worse || a.Since.Before(time.Date(2026, 11, 1, 0, 15*95, 0, 0, time.UTC)) || since < 0 {
					t.Errorf("%+v at %s", a, l.At)
				}
			}
		}
		if !strings.Contains(said, want) {
			t.Errorf("%q, want %q", said, want)
		}
	}
}

// TestLog: lines come back, also behind a line that a kill has torn, and the monitor goes on where it was.
func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "monitor.jsonl")
	log, past, err := OpenLog(path)
	if err != nil || len(past) != 0 {
		t.Fatal(past, err)
	}
	for i := range 50 {
		if err := log.Append(canaryLine(i, 200, "aaaa", 60)); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, 7, len(whole) / 100} {
		if err := os.WriteFile(path, whole[:len(whole)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		log, past, err := OpenLog(path)
		if err != nil || len(past) != 49 {
			t.Fatalf("%d lines behind a torn one, %v", len(past), err)
		}
		if err := log.Append(canaryLine(49, 200, "aaaa", 60)); err != nil {
			t.Fatal(err)
		}
		_ = log.Close()
		if text, _ := os.ReadFile(path); string(text) != string(whole) {
			t.Error("the log is not what it was")
		}
	}
	s := NewState(Canary, past, nil)
	if n := len(s.detectors["ttft"].order); n != 0 {
		t.Errorf("%d values of an empty log", n)
	}
	log, past, err = OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenLog(path); err == nil || !strings.Contains(err.Error(), "another monitor writes to") {
		t.Errorf("two monitors of one log: %v", err)
	}
	_ = log.Close()
	if n := len(NewState(Traffic, past, nil).detectors["ttft"].order); n != 0 {
		t.Errorf("%d values of canaries were learnt for traffic", n)
	}
	if n := len(NewState(Canary, past, nil).detectors["ttft"].order); n != 50 {
		t.Errorf("%d values were learnt from 50 lines", n)
	}
	for _, notes := range []string{"my notes\n", "my notes", "{", "{}", `{"model":"m"}`} {
		other := filepath.Join(t.TempDir(), "notes.txt")
		if err := os.WriteFile(other, []byte(notes), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenLog(other); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("another file, %q: %v", notes, err)
		}
		if text, _ := os.ReadFile(other); string(text) != notes {
			t.Errorf("another file was changed: %q became %q", notes, text)
		}
	}
}

// TestTraffic: another mix of sizes is no change, a slower server is one.
func TestTraffic(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	row := func(size, slower float64) *meter.Record {
		in := size * math.Exp(0.1*rng.NormFloat64())
		return &meter.Record{Model: "m", Outcome: meter.OK, PromptTokens: meter.Some(int64(in)), OutputTokens: meter.Some(100), MeanConcurrency: meter.Some(1000),
			TTFTUs: meter.Some(int64(in * 200 * slower * math.Exp(0.03*rng.NormFloat64()))), DecodeUs: meter.Some(int64(1e6 * slower))}
	}
	s := NewState(Traffic, nil, nil)
	alarmed := 0
	for i := range 200 {
		size, slower := 700.0, 1.0
		if i >= 100 {
			size = 3000 // the sizes change
		}
		if i >= 150 {
			slower = 1.15
		}
		var list []*meter.Record
		for j := range 12 {
			list = append(list, row(map[bool]float64{true: size, false: 700}[j%2 == 0], slower))
		}
		l := &Line{At: time.Date(2026, 11, 1, 0, 15*i, 0, 0, time.UTC), Kind: Traffic, Requests: len(list)}
		l.fromRows(list)
		s.scoreTraffic(l, list)
		s.Take(l)
		for _, a := range l.Alarms {
			if i < 150 || !a.Worse {
				t.Errorf("look %d: %s", i, a.Text())
			}
			alarmed++
		}
	}
	if alarmed == 0 {
		t.Error("15 % slower was not found")
	}
	if text, err := json.Marshal(Line{Skipped: "x"}); err != nil || strings.Contains(string(text), "alarms") || !strings.Contains(string(text), `"ttft_ms":null`) {
		t.Error(string(text), err)
	}
}
