package gpu

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
)

// phaseMark is a named moment of the H100 recording, in its own clock.
type phaseMark struct {
	Name string
	At   int64
}

// h100 loads the recording, its marks and what its requests did to the card.
func h100(t testing.TB) (*Recording, []phaseMark, []Event) {
	t.Helper()
	rec, err := ReadRecording(os.DirFS("testdata/h100"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("testdata/h100/requests.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var marks []phaseMark
	var events []Event
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for n := uint64(1); lines.Scan(); n++ {
		var l struct {
			Mark   string `json:"mark"`
			T      int64  `json:"t"`
			First  int64  `json:"t_event1"`
			Last   int64  `json:"t_last"`
			Send   int64  `json:"t_send"`
			Timing struct {
				PromptMS float64 `json:"prompt_ms"`
				PromptN  int     `json:"prompt_n"`
			} `json:"timings"`
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if l.Mark != "" {
			marks = append(marks, phaseMark{l.Mark, l.T})
			continue
		}
		start := l.First - int64(l.Timing.PromptMS*1e6)
		events = append(events,
			Event{At: l.Send, Request: n, Phase: meter.PhaseWaiting, Slot: -1},
			Event{At: start, Request: n, Phase: meter.PhasePrefill, Slot: -1, Tokens: l.Timing.PromptN},
			Event{At: l.First, Request: n, Phase: meter.PhaseDecode, Slot: -1, Tokens: l.Timing.PromptN},
			Event{At: l.Last, Request: n, Phase: meter.PhaseDone, Slot: -1})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return rec, marks, events
}

// TestH100Replay lets the sampler run on the recording of a real card: the energy that it reports for
// each phase is that of the card's own counter, read independently, within 0.3 %; so is the samples'
// integral alone, which does not know the counter. The lags it learns are those in the recording.
func TestH100Replay(t *testing.T) {
	rec, marks, events := h100(t)
	from, to := rec.Span()
	synctest.Test(t, func(t *testing.T) {
		clock := NewClock()
		player := &Replay{Recording: rec, Clock: clock, Start: clock.Now()}
		shift := player.Start - from
		trace := NewTrace(time.Hour)
		var rows []Row
		info, _ := player.List()
		s, err := Start(Config{
			Clock:   clock,
			Targets: []Target{{Source: player, Info: info[0]}},
			Handle: func(b *Batch) {
				if b.Ended == "" {
					trace.Add(b)
				}
				rows = append(rows, b.Rows...)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			e.At += shift
			time.Sleep(time.Duration(e.At - clock.Now()))
			s.Observe(e)
		}
		time.Sleep(time.Duration(to + shift - clock.Now() - 100e6))
		st := s.States()[0]
		s.Stop()
		t.Logf("profile %s %+v, counter %+v, agreement %d ppm, missed %d", st.Profile, st.Channels[st.Profile], st.Channels[ChannelCounter], st.Agreement.V, st.Missed)
		if l := st.Channels[ChannelBuffer]; !l.LagLearnt || l.LagNs < 5e6 || l.LagNs > 25e6 {
			t.Errorf("sample buffer's lag %+v, want 12 ms learnt", l)
		}
		// The last mark is after the recording's end. A phase is cut 0.2 s before its mark, when nothing
		// was in flight: a counter that steps every 100 ms does not tell on which side of a cut a
		// neighbouring burst was.
		marks[len(marks)-1].At = to - 2500e6
		for i := range marks[:len(marks)-1] {
			a, b := marks[i].At-200e6, marks[i+1].At-200e6
			want := counterEnergy(rec, a, b)
			// The counter's readings are of lagging quantities: the phases begin and end idle, so a
			// common lag costs nothing, and the trace's lag is put back for exactness.
			e := trace.Energy(a+shift-trace.tickLag, b+shift-trace.tickLag)
			alone := trace.c.energy(b+shift-trace.tickLag+trace.profileLag) - trace.c.energy(a+shift-trace.tickLag+trace.profileLag)
			t.Logf("%-14s %8.2f J by the counter, %+.2f %% ± %.2f %%, samples alone %+.2f %%, marked %q", marks[i].Name, want/1e6,
				100*(float64(e.Uj)/want-1), 100*float64(e.ErrorUj)/want, 100*(alone/want-1), e.Marked)
			if !e.OK || math.Abs(float64(e.Uj)/want-1) > 0.003 {
				t.Errorf("%s: %d uJ, the counter says %.0f", marks[i].Name, e.Uj, want)
			}
			if math.Abs(float64(e.Uj)-want) > float64(e.ErrorUj) {
				t.Errorf("%s: off by more than the bound %d", marks[i].Name, e.ErrorUj)
			}
			if math.Abs(alone/want-1) > 0.003 {
				t.Errorf("%s: samples alone are off by %.2f %%", marks[i].Name, 100*(alone/want-1))
			}
		}
		checkRows(t, rec, rows, shift)
	})
}

// counterEnergy reads the recorded counter at two moments, without any code that the sampler uses: it
// interpolates between the middles of the two reads between which the value changed.
func counterEnergy(rec *Recording, a, b int64) float64 {
	at := func(t int64) float64 {
		var t0, t1 int64
		var v0, v1 float64
		for i := 1; i < len(rec.Reads); i++ {
			p, l := rec.Reads[i-1], rec.Reads[i]
			if l.Uj == p.Uj {
				continue
			}
			t0, v0 = t1, v1
			t1, v1 = (p.Before+p.After+l.Before+l.After)/4, float64(l.Uj)
			if t1 > t && t0 > 0 {
				break
			}
		}
		return v0 + (v1-v0)*float64(t-t0)/float64(t1-t0)
	}
	return at(b) - at(a)
}

// checkRows: the seconds follow one another, and together they hold the counter's energy.
func checkRows(t *testing.T, rec *Recording, rows []Row, shift int64) {
	t.Helper()
	var sum float64
	var n int
	var first, last int64
	for i, r := range rows {
		if i > 0 && r.From != rows[i-1].From+rows[i-1].DurationNs {
			t.Errorf("row %d begins at %d, the one before ended at %d", i, r.From, rows[i-1].From+rows[i-1].DurationNs)
		}
		if !r.EnergyUj.Valid {
			continue
		}
		if n++; first == 0 {
			first = r.From
		}
		last = r.From + r.DurationNs
		sum += float64(r.EnergyUj.V)
		if r.MinMw.V > r.MeanMw.V || r.MaxMw.V < r.MeanMw.V {
			t.Errorf("row %d: mean %d mW is not between %d and %d", i, r.MeanMw.V, r.MinMw.V, r.MaxMw.V)
		}
	}
	want := counterEnergy(rec, first-shift, last-shift)
	t.Logf("%d rows with energy of %d: %.1f J, counter %.1f J", n, len(rows), sum/1e6, want/1e6)
	if n < 45 || math.Abs(sum/want-1) > 0.003 {
		t.Errorf("%d rows hold %.1f J, the counter says %.1f", n, sum/1e6, want/1e6)
	}
}

// phaseError is the mean bound and the largest error over the recording's phases, relative.
type phaseError struct{ bound, off float64 }

func phaseErrors(t *testing.T, rec *Recording, marks []phaseMark, events []Event) (out phaseError) {
	t.Helper()
	from, to := rec.Span()
	synctest.Test(t, func(t *testing.T) {
		clock := NewClock()
		player := &Replay{Recording: rec, Clock: clock, Start: clock.Now()}
		shift := player.Start - from
		trace := NewTrace(time.Hour)
		info, _ := player.List()
		s, err := Start(Config{
			Clock: clock, Targets: []Target{{Source: player, Info: info[0]}},
			Handle: func(b *Batch) {
				if b.Ended == "" {
					trace.Add(b)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			e.At += shift
			time.Sleep(time.Duration(e.At - clock.Now()))
			s.Observe(e)
		}
		time.Sleep(time.Duration(to + shift - clock.Now() - 100e6))
		s.Stop()
		for i := range marks[:len(marks)-1] {
			a, b := marks[i].At-200e6, min(marks[i+1].At, to-2500e6)-200e6
			want := counterEnergy(rec, a, b)
			e := trace.Energy(a+shift-trace.tickLag, b+shift-trace.tickLag)
			out.bound += float64(e.ErrorUj) / want / float64(len(marks)-1)
			out.off = max(out.off, math.Abs(float64(e.Uj)/want-1))
		}
	})
	return out
}
