package twin

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/trace"
)

// Proof says whether a run of a trace does what was recorded: A/A, as the run is on the configuration that was recorded.
type Proof struct {
	Trace    string    `json:"trace_sha256"`
	Run      string    `json:"run"` // as RunOf names it
	Passed   bool      `json:"passed"`
	Joules   bool      `json:"joules_passed"` // joules are reproduced too
	Cached   Cached    `json:"cached_tokens"`
	Measures []Measure `json:"measures"` // A is the recording, B the twin
	Why      []string  `json:"why,omitempty"`
	Notes    []string  `json:"notes,omitempty"` // what was not checked
}

// Cached tells in how many requests the server reused as many tokens as in the recording, within one block.
type Cached struct {
	Requests    int        `json:"requests"` // with blocks, and with counts on both sides
	Within      int        `json:"within_one_block"`
	BlockTokens int        `json:"block_tokens"`
	Worst       int64      `json:"worst_tokens"` // largest difference
	Recorded    int64      `json:"recorded_tokens"`
	Twin        int64      `json:"twin_tokens"`
	Share       replay.Num `json:"share"`
	Low         replay.Num `json:"low"` // 95 % interval of the share (Clopper and Pearson)
	High        replay.Num `json:"high"`
	State       State      `json:"state"`
}

// leastWithin is the share of requests whose reuse must be that of the recording: the interval's lower end is above it.
const leastWithin = 0.9

// mostUnmeasured is the share of a trace's requests that may lack a row.
const mostUnmeasured = 0.02

// Prove compares the rows of a run with a trace: rows[i] is of record i, nil where there is none. facts are those of the
// server that ran, as Facts has them; failed are the validity checks that the run failed.
func Prove(t *trace.Trace, rows []*meter.Record, facts map[string]string, failed ...string) *Proof {
	p := &Proof{Trace: t.SHA256}
	refuse := func(format string, args ...any) { p.Why = append(p.Why, fmt.Sprintf(format, args...)) }
	var pairs []pair
	missing, recorded := 0, false
	for i := range t.Records {
		r := &t.Records[i]
		recorded = recorded || r.Observed != nil
		if i >= len(rows) || rows[i] == nil || !asRecorded(rows[i], r.CancelUs.Valid) {
			missing++
			continue
		}
		if r.Observed != nil {
			p := pair{at: i, a: sampleOf(r.Observed, int64(r.Output)), b: sampleOfRow(rows[i]), left: r.CancelUs.Valid, unstreamed: r.Unstreamed}
			if r.CancelUs.Valid { // how much of the reply had come is not in the trace
				p.a.tpotUs = replay.Num{}
			}
			pairs = append(pairs, p)
		}
	}
	if !recorded {
		refuse("the trace has no measurements: only one that `wattline trace export` wrote can be proven")
		return p
	}
	for _, f := range failed {
		refuse("the run is INVALID: %s", f)
	}
	if m := t.Manifest; m != nil {
		differ, unknown := differences(m.Recorded, facts)
		for _, difference := range differ {
			refuse("the server is not as it was recorded: %s", difference)
		}
		if len(unknown) > 0 {
			p.Notes = append(p.Notes, fmt.Sprintf("not checked, as the recording or this run does not tell it: whether these facts of the server are as they were recorded: %s", strings.Join(unknown, ", ")))
		}
	}
	if float64(missing) > mostUnmeasured*float64(len(t.Records)) {
		refuse("%d of %d requests have no row of an answered request: run the twin through wattline, as the recording was", missing, len(t.Records))
	}
	p.Cached = cachedOf(t, pairs)
	for i := range figures {
		p.Measures = append(p.Measures, measure(&figures[i], pairs))
	}
	p.judge(refuse)
	return p
}

// judge sets Passed and Joules.
func (p *Proof) judge(refuse func(string, ...any)) {
	if p.Cached.State != Reproduced {
		refuse("cached tokens: %s", p.Cached)
	}
	p.Joules = true
	for i := range p.Measures {
		m := &p.Measures[i]
		switch {
		case m.Key == "cached_tokens" && p.Cached.Recorded == 0 && p.Cached.Twin == 0: // nothing was reused, and nothing is
		case m.Key == "joules":
			p.Joules = m.State == Reproduced
			if m.State == NotReproduced || m.State == CannotTell {
				refuse("%s", m)
			}
		case m.State != Reproduced:
			refuse("%s", m)
		}
	}
	p.Passed = len(p.Why) == 0
	p.Joules = p.Joules && p.Passed
}

// cachedOf compares the reuse of prompts whose blocks are known.
func cachedOf(t *trace.Trace, pairs []pair) Cached {
	c := Cached{BlockTokens: t.BlockTokens, State: NotMeasured}
	for i := range pairs {
		a, b := pairs[i].a.cached, pairs[i].b.cached
		if t.Records[pairs[i].at].Blocks == nil || !a.Valid || !b.Valid {
			continue
		}
		c.Requests++
		c.Recorded, c.Twin = c.Recorded+a.V, c.Twin+b.V
		away := max(a.V-b.V, b.V-a.V)
		if c.Worst = max(c.Worst, away); away <= int64(t.BlockTokens) {
			c.Within++
		}
	}
	if c.Requests == 0 {
		return c
	}
	n, k := float64(c.Requests), float64(c.Within)
	low, high := 0.0, 1.0
	if k > 0 {
		low = distuv.Beta{Alpha: k, Beta: n - k + 1}.Quantile(0.025)
	}
	if k < n {
		high = distuv.Beta{Alpha: k + 1, Beta: n - k}.Quantile(0.975)
	}
	c.Share, c.Low, c.High = replay.Some(k/n), replay.Some(low), replay.Some(high)
	switch {
	case low >= leastWithin:
		c.State = Reproduced
	case high < leastWithin:
		c.State = NotReproduced
	default:
		c.State = CannotTell
	}
	return c
}

// String is the comparison in words.
func (c Cached) String() string {
	if c.Requests == 0 {
		return "not measured: no prompt has both blocks and counts"
	}
	return fmt.Sprintf("%d of %d requests within one block of %d tokens (%.1f %%, 95 %% interval %.1f .. %.1f, at least %.0f asked), the worst off by %d; in all %d recorded, %d by the twin: %s",
		c.Within, c.Requests, c.BlockTokens, 100*c.Share.V, 100*c.Low.V, 100*c.High.V, 100*leastWithin, c.Worst, c.Recorded, c.Twin, c.State)
}

// String is the measure in words.
func (m *Measure) String() string {
	if m.State == NotMeasured {
		return fmt.Sprintf("%s: not measured: %s", m.Title, m.Why)
	}
	return fmt.Sprintf("%s: %+.1f %% (95 %% interval %+.1f .. %+.1f, bound %.1f): %s", m.Title, m.Percent.V, m.Low.V, m.High.V, m.Bound.V, m.State)
}

// asRecorded reports whether a row's request did what it should: it was answered, or its client left as in the recording.
func asRecorded(rec *meter.Record, leaves bool) bool {
	return rec.Outcome == meter.OK || leaves && rec.Outcome == meter.Cancelled
}

// differences are facts in which the sides differ, and those that one of them does not tell. A flag that only one side has is a
// difference where the flags of both are known.
func differences(recorded, now map[string]string) (differ, unknown []string) {
	both := recorded[flags] != "" && now[flags] != ""
	names := map[string]bool{flags: true, "build": true, "quantisation": true, "context_tokens": true, "slots": true}
	for _, side := range []map[string]string{recorded, now} {
		for name := range side {
			names[name] = true
		}
	}
	said := func(value string, ok bool) string {
		switch {
		case !ok:
			return "not set"
		case value == "":
			return "set"
		}
		return value
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, a := recorded[name]
		is, b := now[name]
		flag := strings.HasPrefix(name, "-")
		switch {
		case a && b && was != is, a != b && flag && both:
			differ = append(differ, fmt.Sprintf("%s was %s and is %s", name, said(was, a), said(is, b)))
		case !flag && !(a && b):
			unknown = append(unknown, name)
		}
	}
	return differ, unknown
}

// shortestDecodeUs is the shortest decode whose time a token is used.
const shortestDecodeUs = 2000

func sampleOf(o *trace.Observed, output int64) sample {
	s := sample{cached: o.CachedTokens, ttftUs: number(o.TTFTUs), brief: output <= 1 || o.DecodeUs.Valid && o.DecodeUs.V < shortestDecodeUs}
	if output > 1 && o.DecodeUs.Valid && o.DecodeUs.V >= shortestDecodeUs {
		s.tpotUs = replay.Some(float64(o.DecodeUs.V) / float64(output-1))
	}
	if o.EnergyQuality != meter.EnergyContended && o.EnergyQuality != meter.EnergyPartial {
		s.joules = number(o.GPUUj).Times(1e-6)
	}
	return s
}

func sampleOfRow(rec *meter.Record) sample { return sampleOf(observed(rec), int64(outputOf(rec))) }

func number(v meter.Int) replay.Num {
	if !v.Valid {
		return replay.Num{}
	}
	return replay.Some(float64(v.V))
}
