package compare

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/twin"
)

// observation is one request.
type observation struct {
	cell   string
	trial  int
	record int // of a trace
	at     time.Time
	y      []float64 // logarithms, by metric; NaN: not obtained
	parts  []string  // of stored rows: the stratum by dimension
	x      []float64 // of stored rows: what a value may depend on within its stratum
}

// Side is the measured requests of A or of B.
type Side struct {
	Label    string    `json:"label"`
	Model    string    `json:"model"`
	Build    string    `json:"build,omitempty"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Trials   int       `json:"trials"`
	Requests int       `json:"requests"`
	Errors   int       `json:"errors"`
	// Simulated: its joules are a simulated device's; nothing was measured.
	Simulated bool `json:"simulated,omitempty"`
	// Failed are the validity checks that the run failed.
	Failed []string `json:"failed_checks,omitempty"`
	// Proof tells whether a run of a trace did what was recorded; nil: it was not compared with that.
	Proof *twin.Proof `json:"proof,omitempty"`

	observations []observation
	workload     string          // what must be equal to compare
	strata       bool            // stored rows
	trace        string          // SHA-256 of the trace that was sent; "": none
	rows         []*meter.Record // of a trace's records
	measured     bool            // the trace has measurements
	cells        []string
}

// FromRun takes the requests of a run.
func FromRun(label string, run *replay.Run) *Side {
	s := &Side{Label: label, From: run.StartedAt, To: run.EndedAt, workload: workloadOf(run.Plan)}
	if run.Server != nil {
		s.Model, s.Build = run.Server.Model, run.Server.Build
	}
	for _, c := range run.Check() {
		if c.State == replay.Failed {
			s.Failed = append(s.Failed, c.Name+": "+c.Detail)
		}
	}
	if r := run.Plan.Recording; r != nil {
		s.trace, s.rows, s.measured = r.SHA256, run.Rows(), r.Measured
	}
	records := 1
	if d := run.Plan.Dataset; d != nil {
		records = max(d.Records, 1)
	}
	trials := map[int]bool{}
	for _, e := range run.Exchanges {
		trials[e.Trial] = true
		if !e.OK() {
			if e.Failed() {
				s.Errors++
			}
			continue
		}
		s.Requests++
		name := run.Plan.Cells[e.Key.Cell].String()
		if run.Plan.Recording != nil {
			name = allRequests
		} else if run.Plan.Dataset != nil { // each record is a cell, as their sizes differ
			name = fmt.Sprintf("%s, request %d", run.Plan.Cells[e.Key.Cell].Task, e.Index%records+1)
		}
		o := observation{cell: name, trial: e.Trial, at: e.StartedAt, record: e.Index}
		for _, m := range metrics {
			v := replay.Num{}
			if m.exchange != nil {
				v = m.exchange(e, run.Plan.Spec.Concurrency)
			}
			o.y = append(o.y, logarithm(v))
		}
		s.Simulated = s.Simulated || e.InLine != nil && strings.HasPrefix(e.InLine.EnergySource, "sim/")
		s.observations = append(s.observations, o)
	}
	s.Trials = len(trials)
	s.peaks(run)
	s.finish()
	return s
}

// peaks adds the highest device memory of each trial as an observation of its own.
func (s *Side) peaks(run *replay.Run) {
	highest, at := map[int]float64{}, map[int]time.Time{}
	for _, span := range run.Spans {
		at[span.Trial] = span.From
		byDevice := map[string]float64{}
		for _, p := range run.Power.Samples {
			if p.VRAMBytes.Valid && !p.At.Before(span.From) && p.At.Before(span.To) {
				byDevice[p.Device] = max(byDevice[p.Device], float64(p.VRAMBytes.V))
			}
		}
		sum := 0.0
		for _, v := range byDevice {
			sum += v
		}
		highest[span.Trial] = max(highest[span.Trial], sum)
	}
	for _, e := range run.Exchanges {
		if e.InLine != nil && e.InLine.VRAMBytes.Valid {
			highest[e.Trial] = max(highest[e.Trial], float64(e.InLine.VRAMBytes.V))
		}
	}
	for trial, bytes := range highest {
		if bytes > 0 {
			s.addPeak(trial, at[trial], bytes)
		}
	}
}

func (s *Side) addPeak(trial int, at time.Time, bytes float64) {
	o := observation{cell: allCells, trial: trial, at: at}
	for _, m := range metrics {
		v := math.NaN()
		if m.peak {
			v = math.Log(bytes / 1e9)
		}
		o.y = append(o.y, v)
	}
	s.observations = append(s.observations, o)
}

// allCells is the cell of what is read once a trial.
const allCells = "all cells"

// finish sorts the observations and lists the cells.
func (s *Side) finish() {
	slices.SortStableFunc(s.observations, func(a, b observation) int { return a.at.Compare(b.at) })
	for _, o := range s.observations {
		if !slices.Contains(s.cells, o.cell) {
			s.cells = append(s.cells, o.cell)
		}
	}
	slices.Sort(s.cells)
}

func logarithm(v replay.Num) float64 {
	if !v.Valid || v.V <= 0 {
		return math.NaN()
	}
	return math.Log(v.V)
}

// workloadOf is what two runs must have in common: all of the workload but how often it was run.
func workloadOf(p *replay.Plan) string {
	s := &p.Spec
	load := fmt.Sprintf("%d in flight", s.Concurrency)
	if s.Rate > 0 {
		load = fmt.Sprintf("%g requests a second (%s, burstiness %g)", s.Rate, s.Arrival, s.Burstiness)
	}
	what := "texts"
	if r := p.Recording; r != nil {
		load = fmt.Sprintf("%s at speed %g, %s replies, %d sent%s", load, r.Speed, r.Replies, r.Sent, chosen(r, s.Seed))
		what = r.File
	}
	if p.Dataset != nil {
		what = p.Dataset.File
	}
	return fmt.Sprintf("%s, %s cache, %s length, %s %.12s", load, s.Cache, s.Length, what, p.Corpus)
}

// chosen says which requests of a trace were sent, and whether they were changed: the first of one run must be that of another.
func chosen(r *replay.Recording, seed uint64) (out string) {
	if r.FromS.Valid || r.ToS.Valid {
		end := "its end"
		if r.ToS.Valid {
			end = fmt.Sprintf("%g s", r.ToS.V)
		}
		out += fmt.Sprintf(" from %g s to %s", r.FromS.V, end)
	}
	if r.Sample < 1 {
		out += fmt.Sprintf(", %g %% of the sessions by seed %d", 100*r.Sample, seed)
	}
	if r.Dropped > 0 || r.Changed > 0 {
		out += fmt.Sprintf(", %d left out and %d changed to fit the context (%s)", r.Dropped, r.Changed, r.Fit)
	}
	return out
}

// ErrWorkloads is why two sides cannot be compared: they were asked for different things.
var ErrWorkloads = errors.New("A and B ran different workloads")

// matching returns an error where two sides were asked for different things, or have no cell in common.
func matching(a, b *Side) error {
	if a.strata != b.strata {
		return fmt.Errorf("one side is a run of replay, the other stored rows: compare two folders, or two choices of rows")
	}
	if a.workload != b.workload {
		return fmt.Errorf("%w: A %s; B %s. Run the same workload on both", ErrWorkloads, a.workload, b.workload)
	}
	if !a.strata && len(common(a, b)) == 0 {
		return fmt.Errorf("%w: no cell is in both (A: %s; B: %s). Run the same workload on both", ErrWorkloads, strings.Join(a.cells, ", "), strings.Join(b.cells, ", "))
	}
	return nil
}

// common are the cells that both sides have.
func common(a, b *Side) (out []string) {
	for _, c := range a.cells {
		if c != allCells && slices.Contains(b.cells, c) {
			out = append(out, c)
		}
	}
	return out
}

// roundSize is the number of trials in a round A B B A.
const roundSize = 4

// Interleaved reports whether two sides were measured in turn: no trial number is in both, and the trials of both together
// began in their order. Sides of two sessions did not.
func Interleaved(a, b *Side) bool {
	if a.strata || len(a.observations) == 0 || len(b.observations) == 0 {
		return false
	}
	began := map[int]time.Time{}
	for _, side := range []*Side{a, b} {
		own := map[int]time.Time{}
		for _, o := range side.observations {
			if at, ok := own[o.trial]; o.cell != allCells && (!ok || o.at.Before(at)) {
				own[o.trial] = o.at
			}
		}
		for trial, at := range own {
			if _, both := began[trial]; both {
				return false
			}
			began[trial] = at
		}
	}
	return slices.IsSortedFunc(slices.Sorted(maps.Keys(began)), func(x, y int) int { return began[x].Compare(began[y]) })
}

// Turn says which side runs a trial of an interleaved session: A B B A, A B B A, ...
func Turn(trial int) (b bool) { return trial%roundSize == 1 || trial%roundSize == 2 }

// Rounds is how many rounds of an interleaved session are whole.
func Rounds(a, b *Side) int { return len(wholeRounds(a, b)) }

// wholeRounds maps rounds, all trials of which have all common cells, to unit numbers.
func wholeRounds(a, b *Side) map[int]int {
	cells := common(a, b)
	type part struct {
		trial int
		cell  string
	}
	seen := map[part]bool{}
	trials := map[int]bool{}
	for _, side := range []*Side{a, b} {
		for _, o := range side.observations {
			seen[part{o.trial, o.cell}] = true
			trials[o.trial/roundSize] = true
		}
	}
	units := map[int]int{}
	for _, round := range slices.Sorted(maps.Keys(trials)) {
		whole := true
		for t := round * roundSize; t < (round+1)*roundSize; t++ {
			for _, c := range cells {
				whole = whole && seen[part{t, c}]
			}
		}
		if whole {
			units[round] = len(units)
		}
	}
	return units
}
