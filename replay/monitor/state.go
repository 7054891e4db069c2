package monitor

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"wattline/meter"
	"wattline/replay"
)

// State is what a monitor has learnt: it is made again from the lines of its log.
type State struct {
	detectors map[string]*Detector
	lines     []Line // the newest, measured ones
	like      map[string]map[string][]float64
	configs   func(id string) string
}

// PerMonth is how many values come in a month at the default interval of a quarter of an hour: the detectors are tuned to
// one false alarm in so many.
const PerMonth = 30 * 24 * 4

// NewState learns from the lines of a kind: those of the other kind have figures of other requests. configs tells what a configuration is in one line, for the cause of a change; it may be nil.
func NewState(kind string, lines []Line, configs func(id string) string) *State {
	s := &State{detectors: map[string]*Detector{}, like: map[string]map[string][]float64{}, configs: configs}
	for _, w := range watched {
		s.detectors[w.key] = &Detector{limit: Limit(len(watched), PerMonth)}
	}
	for i := range lines {
		if lines[i].Kind == kind {
			s.Take(&lines[i])
		}
	}
	return s
}

// Take learns a line and adds its alarms to it.
func (s *State) Take(l *Line) {
	if l.Skipped != "" {
		return
	}
	l.Alarms = nil
	s.lines = append(s.lines, *l)
	if len(s.lines) > maxPast {
		s.lines = s.lines[1:]
	}
	for _, w := range watched {
		v, ok := l.Scores[w.key]
		if !ok {
			continue
		}
		c := s.detectors[w.key].Add(v)
		if c == nil {
			continue
		}
		from := s.back(w.key, c.Behind)
		l.Alarms = append(l.Alarms, Alarm{
			Metric: w.key, Since: s.lines[from].At, Percent: 100 * (c.Ratio - 1), Worse: (c.Ratio > 1) == w.lower, With: s.with(from),
		})
	}
}

// Status is how a metric stands.
type Status struct {
	Metric string
	Ratio  replay.Num // the newest look to the median since the last change; null before there is one
	Alarms int        // since the state was made
}

// Status of each metric.
func (s *State) Status() (out []Status) {
	for _, w := range watched {
		d := s.detectors[w.key]
		st := Status{Metric: w.key, Alarms: d.changes}
		if n := len(d.order); n > 1 {
			st.Ratio = replay.Some(math.Exp(d.order[n-1] - d.middle()))
		}
		out = append(out, st)
	}
	return out
}

// back is the index of the line n values of a metric back.
func (s *State) back(key string, n int) int {
	for i := range slices.Backward(s.lines) {
		if _, ok := s.lines[i].Scores[key]; ok {
			n--
		}
		if n == 0 {
			return i
		}
	}
	return 0
}

// Bounds of what counts as a change at the same time.
const (
	hotter     = 5.0 // °C
	often, not = 0.5, 0.1
	window     = 20 // lines before the change
)

// with says what else changed at a change: a configuration, the temperature, throttling, neighbours.
func (s *State) with(from int) []string {
	before, behind := s.lines[max(0, from-window):from], s.lines[from:]
	out := []string{}
	if len(before) == 0 {
		return out
	}
	if a, b := before[0].ConfigID, behind[len(behind)-1].ConfigID; a != b && a != "" && b != "" {
		text := fmt.Sprintf("configuration %s became %s", a, b)
		if s.configs != nil {
			if d := difference(s.configs(a), s.configs(b)); d != "" {
				text += ": " + d
			}
		}
		out = append(out, text)
	} else if a, b := before[0].Build, behind[len(behind)-1].Build; a != b && a != "" && b != "" {
		out = append(out, fmt.Sprintf("build %s became %s", a, b))
	}
	temps := func(list []Line) replay.Num {
		var v []float64
		for _, l := range list {
			if l.TempC.Valid {
				v = append(v, l.TempC.V)
			}
		}
		return replay.Median(v)
	}
	if a, b := temps(before), temps(behind); a.Valid && b.Valid && math.Abs(b.V-a.V) >= hotter {
		out = append(out, fmt.Sprintf("the temperature went from %.0f to %.0f °C", a.V, b.V))
	}
	for _, c := range []struct {
		what string
		is   func(*Line) bool
	}{
		{"the device throttles", func(l *Line) bool { return l.Throttled.V > 0 }},
		{"another process computes on the device", func(l *Line) bool { return l.Contended > 0 }},
	} {
		if part(behind, c.is) >= often && part(before, c.is) <= not {
			out = append(out, c.what)
		}
	}
	return out
}

func part(list []Line, is func(*Line) bool) float64 {
	n := 0
	for i := range list {
		if is(&list[i]) {
			n++
		}
	}
	return float64(n) / float64(len(list))
}

// difference is what two texts of words do not have in common.
func difference(a, b string) string {
	only := func(a, b string) (out []string) {
		has := strings.Fields(b)
		for _, w := range strings.Fields(a) {
			if !slices.Contains(has, w) {
				out = append(out, w)
			}
		}
		return out
	}
	gone, came := strings.Join(only(a, b), " "), strings.Join(only(b, a), " ")
	switch {
	case gone == "" && came == "":
		return ""
	case gone == "":
		return came + " is new"
	case came == "":
		return gone + " is gone"
	}
	return gone + " became " + came
}

// Score fills in what the detectors are given: of a canary, its figures.
func (l *Line) score() {
	l.Scores = map[string]float64{}
	for _, w := range watched {
		if v := w.value(l); v.Valid && v.V > 0 {
			l.Scores[w.key] = math.Log(v.V)
		}
	}
}

// Bounds of like requests.
const (
	leastLike = 5
	mostLike  = 200
)

// scoreTraffic fills in the mean of the rows' ratios to like requests before: of the same model, and of sizes and company
// within a factor of two. They are remembered as long as the process runs.
func (s *State) scoreTraffic(l *Line, rows []*meter.Record) {
	sums, n := map[string]float64{}, map[string]float64{}
	for _, r := range rows {
		one := Line{}
		one.fromRows([]*meter.Record{r})
		key := likeKey(r)
		if s.like[key] == nil {
			s.like[key] = map[string][]float64{}
		}
		for _, w := range watched {
			v := w.value(&one)
			if !v.Valid || v.V <= 0 {
				continue
			}
			past := s.like[key][w.key]
			if len(past) >= leastLike {
				sums[w.key] += math.Log(v.V) - median(past)
				n[w.key]++
			}
			if len(past) < mostLike { // the first ones stay the measure
				s.like[key][w.key] = append(past, math.Log(v.V))
			}
		}
	}
	l.Scores = map[string]float64{}
	for k, sum := range sums {
		l.Scores[k] = sum / n[k]
	}
}

func likeKey(r *meter.Record) string {
	size := func(v int64) int { return int(math.Log2(float64(max(v, 1)))) }
	return fmt.Sprint(r.Model, " ", size(r.PromptTokens.V), " ", size(r.PromptTokens.V-r.CachedTokens.V), " ", size(r.OutputTokens.V), " ", size(r.MeanConcurrency.V/1000))
}
