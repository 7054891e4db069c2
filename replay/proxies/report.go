package proxies

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Num is a measured number; NaN, which is null in JSON, where there is none.
type Num float64

// MarshalJSON writes four digits, or null.
func (n Num) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(n), 'g', 5, 64), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (n *Num) UnmarshalJSON(p []byte) error {
	if string(p) == "null" {
		*n = Num(math.NaN())
		return nil
	}
	v, err := strconv.ParseFloat(string(p), 64)
	*n = Num(v)
	return err
}

// Cell is one contender in one scenario in one round. Times are microseconds.
type Cell struct {
	P50         Num            `json:"p50_us"` // an event's way from the upstream's write to the client's read; or a short request
	P90         Num            `json:"p90_us"`
	P99         Num            `json:"p99_us"`
	TTFT        Num            `json:"ttft_p50_us"` // without the time for which the schedule withheld the first event
	CPU         Num            `json:"cpu_us"`      // of the contender's processes, per event or request
	UpstreamCPU Num            `json:"upstream_cpu_us"`
	LoadCPU     Num            `json:"load_cpu_us"`
	PerSecond   Num            `json:"requests_per_second"`
	RSS         Num            `json:"rss_mib"`
	PerStream   Num            `json:"kib_per_stream"`
	Goroutines  Num            `json:"goroutines_per_stream"`
	Requests    int            `json:"requests"` // that ended well
	Events      int            `json:"events"`
	Failures    int            `json:"failures"`
	Why         map[string]int `json:"why,omitempty"`
}

func (c *Cell) String() string {
	s := fmt.Sprintf("p50 %s us, p99 %s us, CPU %s us, %s MiB, %d failed", figure(c.P50, 0), figure(c.P99, 0), figure(c.CPU, 1), figure(c.RSS, 1), c.Failures)
	if !math.IsNaN(float64(c.PerStream)) {
		s = fmt.Sprintf("%s KiB and %s goroutines a stream, %d failed", figure(c.PerStream, 1), figure(c.Goroutines, 2), c.Failures)
	}
	if len(c.Why) > 0 {
		s += fmt.Sprintf(" %v", c.Why)
	}
	return s
}

// fields are the numbers of a cell, for taking medians.
func (c *Cell) fields() []*Num {
	return []*Num{&c.P50, &c.P90, &c.P99, &c.TTFT, &c.CPU, &c.UpstreamCPU, &c.LoadCPU, &c.PerSecond, &c.RSS, &c.PerStream, &c.Goroutines}
}

// Report is a run's result.
type Report struct {
	Date     time.Time         `json:"date"`
	Machine  string            `json:"machine"`
	Command  string            `json:"command,omitempty"`
	Rounds   int               `json:"rounds"`
	Versions map[string]string `json:"versions"`
	Missing  []string          `json:"missing,omitempty"`
	Sections []*Section        `json:"sections"`
	Targets  []Target          `json:"targets"`
}

// Section is one scenario's part.
type Section struct {
	Scenario
	Rows []*Row `json:"rows"`
}

// Row is one contender's part of a section: the rounds as measured, and medians over them. Ratios are
// taken within each round; compared is what each proxy adds to direct.
type Row struct {
	Name   string  `json:"name"`
	Rounds []*Cell `json:"rounds"`

	Median   Cell `json:"median"`
	AddedP50 Num  `json:"added_p50_us"`
	AddedP90 Num  `json:"added_p90_us"`
	AddedP99 Num  `json:"added_p99_us"`
	AddedTT  Num  `json:"added_ttft_us"`
	NginxP50 Num  `json:"p50_over_nginx"`
	NginxCPU Num  `json:"cpu_over_nginx"`
	RelayP50 Num  `json:"p50_over_relay"`
	RelayCPU Num  `json:"cpu_over_relay"`
}

// Target is one line of the verdict.
type Target struct {
	Kind  string `json:"kind"` // must or aim
	What  string `json:"what"`
	Limit Num    `json:"limit"`
	Got   Num    `json:"got"`
	Met   bool   `json:"met"`
}

func newReport(rounds int, scenarios []Scenario, list []string, versions map[string]string, missing []string) *Report {
	r := &Report{Date: time.Now().UTC(), Rounds: rounds, Versions: versions, Missing: missing}
	for _, s := range scenarios {
		sec := &Section{Scenario: s}
		for _, name := range list {
			sec.Rows = append(sec.Rows, &Row{Name: name})
		}
		r.Sections = append(r.Sections, sec)
	}
	return r
}

// section and row find what is there; nil otherwise.
func (r *Report) section(key string) *Section {
	for _, s := range r.Sections {
		if s.Key == key {
			return s
		}
	}
	return nil
}

func (s *Section) row(name string) *Row {
	for _, r := range s.Rows {
		if r.Name == name {
			return r
		}
	}
	return nil
}

func (r *Report) add(key, name string, c *Cell) {
	row := r.section(key).row(name)
	row.Rounds = append(row.Rounds, c)
}

// finish takes medians, ratios and the verdict.
func (r *Report) finish() {
	for _, s := range r.Sections {
		for _, row := range s.Rows {
			row.median()
			row.AddedP50 = s.over(row, func(c *Cell) Num { return c.P50 })
			row.AddedP90 = s.over(row, func(c *Cell) Num { return c.P90 })
			row.AddedP99 = s.over(row, func(c *Cell) Num { return c.P99 })
			row.AddedTT = s.over(row, func(c *Cell) Num { return c.TTFT })
			row.NginxP50, row.NginxCPU = s.ratios(row, s.row(Nginx))
			row.RelayP50, row.RelayCPU = s.ratios(row, s.row(Relay))
		}
	}
	r.judge()
}

func (row *Row) median() {
	for i, f := range row.Median.fields() {
		var v []float64
		for _, c := range row.Rounds {
			v = append(v, float64(*c.fields()[i]))
		}
		*f = Num(median(v))
	}
	for _, c := range row.Rounds {
		row.Median.Requests += c.Requests
		row.Median.Events += c.Events
		row.Median.Failures += c.Failures
		for k, n := range c.Why {
			if row.Median.Why == nil {
				row.Median.Why = map[string]int{}
			}
			row.Median.Why[k] += n
		}
	}
}

// over is the median of what row has over direct in the same round.
func (s *Section) over(row *Row, of func(*Cell) Num) Num {
	d := s.row(Direct)
	if d == nil || row == d {
		return Num(math.NaN())
	}
	var v []float64
	for i := range min(len(row.Rounds), len(d.Rounds)) {
		v = append(v, float64(of(row.Rounds[i])-of(d.Rounds[i])))
	}
	return Num(median(v))
}

// ratios compares what two rows add to the median event, and what they use, within each round.
func (s *Section) ratios(row, to *Row) (p50, cpu Num) {
	d := s.row(Direct)
	if to == nil || row == d {
		return Num(math.NaN()), Num(math.NaN())
	}
	var ps, cs []float64
	for i := range min(len(row.Rounds), len(to.Rounds)) {
		cs = append(cs, float64(row.Rounds[i].CPU/to.Rounds[i].CPU))
		if d != nil && i < len(d.Rounds) {
			base := d.Rounds[i].P50
			ps = append(ps, float64((row.Rounds[i].P50-base)/(to.Rounds[i].P50-base)))
		}
	}
	return Num(median(ps)), Num(median(cs))
}

// judge holds wattline against the targets.
func (r *Report) judge() {
	add := func(kind, what string, got, limit Num) {
		if !math.IsNaN(float64(got)) {
			r.Targets = append(r.Targets, Target{kind, what, limit, got, got <= limit})
		}
	}
	failed, streams := 0, 0
	for _, s := range r.Sections {
		w := s.row(Wattline)
		if w == nil {
			continue
		}
		failed += w.Median.Failures
		streams += w.Median.Requests
		switch {
		case s.Idle:
			add("must", s.Title+": KiB a stream", w.Median.PerStream, 32)
			add("aim", s.Title+": KiB a stream", w.Median.PerStream, 20)
			add("must", s.Title+": goroutines a stream", w.Median.Goroutines, 2)
		case s.Short:
			add("must", s.Title+": CPU a request / nginx's", w.NginxCPU, 2)
			add("aim", s.Title+": CPU a request / nginx's", w.NginxCPU, 1.5)
		default:
			add("must", s.Title+": added p50 / nginx's", w.NginxP50, 1.5)
			add("aim", s.Title+": added p50 / nginx's", w.NginxP50, 1)
			add("must", s.Title+": CPU an event / Go relay's", w.RelayCPU, 1.1)
			if _, hi := s.band(); !math.IsNaN(hi) {
				add("must", s.Title+": p99 (us) against the largest of nginx's own", w.Median.P99, Num(hi))
			}
		}
	}
	if streams > 0 {
		add("must", fmt.Sprintf("failed streams and requests of %d", streams+failed), Num(failed), 0)
	}
}

// band is how far nginx's p99 lies from itself: over both of its entries and all rounds.
func (s *Section) band() (lo, hi float64) {
	var v []float64
	for _, name := range []string{Nginx, NginxAgain} {
		if row := s.row(name); row != nil {
			for _, c := range row.Rounds {
				v = append(v, float64(c.P99))
			}
		}
	}
	return spread(v)
}
