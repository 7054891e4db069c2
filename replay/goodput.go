package replay

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Objective is a time that a request's reply should keep, in milliseconds.
type Objective struct {
	Metric string  `json:"metric"` // ttft, tpot or latency
	MaxMs  float64 `json:"max_ms"`
}

// Goodput is how many requests kept every objective. Requests that failed kept none; it is null without
// objectives.
type Goodput struct {
	Objectives        []Objective `json:"objectives"`
	Met               int         `json:"met"`
	Of                int         `json:"of"`
	Share             Num         `json:"share"`
	RequestsPerSecond Num         `json:"requests_per_second"` // that kept them, over the time in which cells ran
}

// Missed reports whether fewer than that share of the replies kept the objectives, if there are any.
func (g *Goodput) Missed(share float64) bool { return g != nil && g.Share.Valid && g.Share.V < share }

// metrics are the times that an objective may be about, under the names of other tools too.
//
//nolint:gochecknoglobals // a constant table
var metrics = map[string]struct {
	name  string
	value func(*Exchange) Num
}{
	"ttft": {"ttft", ttftMs}, "time_to_first_token": {"ttft", ttftMs},
	"tpot": {"tpot", tpotMs}, "inter_token_latency": {"tpot", tpotMs},
	"latency": {"latency", endMs}, "e2el": {"latency", endMs}, "request_latency": {"latency", endMs},
}

func endMs(e *Exchange) Num { return num(e.EndUs).Times(1e-3) }

// ParseObjectives reads "ttft:500", "tpot:50", "latency:10000", milliseconds each.
func ParseObjectives(list []string) ([]Objective, error) {
	var out []Objective
	for _, text := range list {
		name, limit, ok := strings.Cut(text, ":")
		ms, err := strconv.ParseFloat(limit, 64)
		m, known := metrics[name]
		if !ok || err != nil || !(ms > 0) || math.IsInf(ms, 1) || !known {
			return nil, fmt.Errorf("%q is no objective: write ttft:500, tpot:50 or latency:10000, in milliseconds", text)
		}
		if slices.ContainsFunc(out, func(o Objective) bool { return o.Metric == m.name }) {
			return nil, fmt.Errorf("there are two objectives for %s", m.name)
		}
		out = append(out, Objective{m.name, ms})
	}
	return out, nil
}

// goodput holds every measured request against the run's objectives. A reply of one token has no tpot and
// keeps any.
func (r *Run) goodput() *Goodput {
	if len(r.Objectives) == 0 {
		return nil
	}
	g := &Goodput{Objectives: r.Objectives, Of: len(r.Exchanges)}
	for _, e := range r.Exchanges {
		kept := e.OK()
		for _, o := range r.Objectives {
			v := metrics[o.Metric].value(e)
			kept = kept && (v.Valid && v.V <= o.MaxMs || !v.Valid && o.Metric == "tpot")
		}
		if kept {
			g.Met++
		}
	}
	g.Share = Ratio(Some(float64(g.Met)), Some(float64(g.Of)))
	g.RequestsPerSecond = Ratio(Some(float64(g.Met)), r.measuredSeconds())
	return g
}
