package attribution

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/meter/energy"
)

// session runs one wattline's settler over a plant with requests of a model, on fake time, and returns
// how its ledger began and the rows.
func session(t *testing.T, path, model string, requests int) (opening, map[string]*meter.Record) {
	t.Helper()
	k := &kept{settled: map[string]*meter.Record{}}
	var began opening
	synctest.Test(t, func(t *testing.T) {
		memory, err := OpenMemory(path)
		if err != nil {
			t.Fatal(err)
		}
		epoch := time.Now()
		now := func() int64 { return int64(time.Since(epoch)) + 1 }
		s := newSettler(settlerConfig{
			Rows: k, Now: now, Wall: func(ns int64) time.Time { return epoch.Add(time.Duration(ns)) },
			Upstreams: []string{"http://a"}, Memory: memory, Opened: func(_ int, with opening) { began = with },
		}, "GPU-0")
		u := s.ledgers(0, 0)
		pulses(requests).feed(s, 0, sec(0.02), sec(float64(3*requests+10)))
		for i := range requests {
			from := float64(1 + 3*i)
			ask(u, uint64(i+1), model, from, from+0.5, from+2)
			time.Sleep(3 * time.Second)
		}
		time.Sleep(10 * time.Second)
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return began, k.settled
}

// pulses is a plant that works for two seconds of every three.
type pulses int

func (n pulses) mw(at int64) int64 {
	at -= sec(1)
	if at <= 0 || at > int64(n)*sec(3) || at%sec(3) > sec(2) || at%sec(3) == 0 {
		return 100_000
	}
	return 300_000
}

func (n pulses) feed(s *settler, device int, start, end int64) { feed(s, device, start, end, n.mw) }

// ask plays one request to a model.
func ask(u *ledgerSet, key uint64, model string, start, first, end float64) {
	u.Observe(energy.Event{Kind: energy.Arrive, Request: key, At: sec(start)})
	u.Observe(energy.Event{Kind: energy.SlotStart, Request: key, At: sec(start)})
	u.Observe(energy.Event{Kind: energy.FirstToken, Request: key, At: sec(first)})
	for i := range 50 {
		u.Observe(energy.Event{Kind: energy.Decode, Request: key, At: sec(first + (end-first)*float64(i)/50), Tokens: 1})
	}
	u.Done(&meter.Record{ID: model, Model: model, Outcome: meter.OK}, energy.Event{
		Kind: energy.End, Request: key, At: sec(end), Counts: energy.Counts{Known: true, PromptTokens: 100, OutputTokens: 50},
	})
}

// TestMemoryAcrossStarts: coefficients and idle draw come back for the same device and
// upstream, another model's are kept beside them, and one that is seen again gets its own.
func TestMemoryAcrossStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "energy.json")
	began, _ := session(t, path, "small", 8)
	if began.Coefficients[0] != (energy.Coefficients{}) || began.Config.Baseline.Windows != 0 {
		t.Errorf("the first start began with %+v", began)
	}
	began, _ = session(t, path, "large", 1)
	if began.Coefficients[0].Decode == 0 || began.Coefficients[0].StepUJ+began.Coefficients[0].TokenUJ <= 0 {
		t.Errorf("the second start began with %+v", began.Coefficients[0])
	}
	if b := began.Config.Baseline; b.Windows == 0 || b.BaseMW < 95e3 || b.BaseMW > 105e3 {
		t.Errorf("the second start began with the idle draw %+v, the plant idles at 100 W", b)
	}
	m, err := OpenMemory(path)
	if err != nil {
		t.Fatal(err)
	}
	if all := m.All(); len(all) != 2 || all[0].Model != "large" || all[1].Model != "small" || all[1].Device != "GPU-0" {
		t.Errorf("kept: %+v", all)
	}
	if l, ok := m.Last("GPU-0", "http://a"); !ok || l.Model != "large" {
		t.Errorf("the upstream served last: %+v", l)
	}
	if _, ok := m.Recall("GPU-1", "small"); ok {
		t.Error("another device has the first one's coefficients")
	}
}

// TestAMemoryThatCannotBeRead is said, and is learnt anew.
func TestAMemoryThatCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "energy.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := OpenMemory(path)
	if err == nil || m == nil || len(m.All()) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	for i := range mostLearnt + 10 {
		m.Keep(Learnt{Device: "GPU-0", Model: string(rune('a' + i)), At: time.Unix(int64(i), 0)})
	}
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	if m, err = OpenMemory(path); err != nil || len(m.All()) != mostLearnt {
		t.Errorf("%d are kept, %v", len(m.All()), err)
	}
	if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
		t.Errorf("%v beside the file, %v", list, err)
	}
}
