// Package sweep measures a workload at several loads: at each of a list of concurrencies, or at rates that search the
// knee, the highest rate at which the requests keep their objectives. A [Point] is one load and what came of it; [Mark]
// finds those that no other beats in both tokens a second and joules a token.
package sweep

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"wattline/replay"
)

// Plan is what is swept.
type Plan struct {
	Concurrency []int
	Auto        bool // rates, by bisection
}

// Parse reads "concurrency=1,2,4,8" or "rate=auto".
func Parse(s string) (Plan, error) {
	key, value, _ := strings.Cut(s, "=")
	switch {
	case key == "rate" && value == "auto":
		return Plan{Auto: true}, nil
	case key == "concurrency" && value != "":
		var p Plan
		for _, part := range strings.Split(value, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(part))
			if err != nil || n < 1 {
				return p, fmt.Errorf("%q is no concurrency: write concurrency=1,2,4,8", part)
			}
			if slices.Contains(p.Concurrency, n) {
				return p, fmt.Errorf("concurrency %d stands there twice", n)
			}
			p.Concurrency = append(p.Concurrency, n)
		}
		return p, nil
	}
	return Plan{}, fmt.Errorf("%q cannot be swept: write concurrency=1,2,4,8 or rate=auto", s)
}

// Point is one load and what came of it.
type Point struct {
	Concurrency       int             `json:"concurrency,omitempty"`
	Rate              float64         `json:"rate,omitempty"` // requests a second, sent
	Requests          int             `json:"requests"`
	Errors            int             `json:"errors"`
	TokensPerSecond   replay.Num      `json:"tokens_per_second"` // of the whole server
	RequestsPerSecond replay.Num      `json:"requests_per_second"`
	JoulesPerToken    replay.Num      `json:"joules_per_token"`
	TTFTMs            replay.Num      `json:"ttft_ms"`     // medians
	TTFTP95Ms         replay.Num      `json:"ttft_p95_ms"` // nearest rank
	TPOTMs            replay.Num      `json:"tpot_ms"`
	QueueMs           replay.Num      `json:"queue_ms"`
	Kept              *replay.Goodput `json:"goodput"` // null without objectives
	Pareto            bool            `json:"pareto"`
	Failed            []string        `json:"failed_checks,omitempty"`
}

// Result is a sweep.
type Result struct {
	Model  string    `json:"model"`
	At     time.Time `json:"at"`
	What   string    `json:"workload"`
	Points []Point   `json:"points"`
	Knee   *Knee     `json:"knee"` // null unless the rate was searched
	Notes  []string  `json:"notes"`
}

// PointOf is the point of a run.
func PointOf(run *replay.Run) Point {
	r := run.Results()
	s := &run.Plan.Spec
	p := Point{
		Concurrency: s.Concurrency, Rate: s.Rate, Requests: len(run.Exchanges), Errors: r.Errors, TokensPerSecond: r.Throughput.SystemTokensPerSecond,
		RequestsPerSecond: r.Latency.RequestsPerSecond, JoulesPerToken: r.Energy.JoulesPerToken, Kept: r.Goodput,
	}
	if s.Rate > 0 {
		p.Concurrency = 0
	}
	var ttft, tpot, queue []float64
	for _, e := range run.Exchanges {
		if !e.OK() {
			continue
		}
		if e.TTFTUs.Valid {
			ttft = append(ttft, float64(e.TTFTUs.V)/1e3)
		}
		if v := e.TPOTUs(); v.Valid {
			tpot = append(tpot, v.V/1e3)
		}
		if e.InLine != nil && e.InLine.QueueUs.Valid {
			queue = append(queue, float64(e.InLine.QueueUs.V)/1e3)
		}
	}
	p.TTFTMs, p.TPOTMs, p.QueueMs = replay.Median(ttft), replay.Median(tpot), replay.Median(queue)
	p.TTFTP95Ms = replay.NearestRank(ttft, 0.95)
	for _, c := range r.Checks {
		if c.State == replay.Failed {
			p.Failed = append(p.Failed, c.Name)
		}
	}
	return p
}

// Mark finds the Pareto points: no other has more tokens a second for no more joules a token, or fewer joules a token at
// no fewer tokens a second. Without joules there is no curve.
func Mark(points []Point) {
	for i := range points {
		p := &points[i]
		p.Pareto = p.JoulesPerToken.Valid && p.TokensPerSecond.Valid && !slices.ContainsFunc(points, func(o Point) bool {
			return o.JoulesPerToken.Valid && o.TokensPerSecond.Valid && o.TokensPerSecond.V >= p.TokensPerSecond.V && o.JoulesPerToken.V <= p.JoulesPerToken.V &&
				(o.TokensPerSecond.V > p.TokensPerSecond.V || o.JoulesPerToken.V < p.JoulesPerToken.V)
		})
	}
}

// ErrNoObjectives is why a knee cannot be searched.
var ErrNoObjectives = errors.New("rate=auto searches the highest rate at which requests keep their objectives: give them with --goodput ttft:500,tpot:50")

// Durations of a probe: long enough that the queue of a rate a few percent too high exceeds the objective, and for enough
// requests to be sure.
const (
	leastProbe   = 10 * time.Second
	perObjective = 30
	sureRequests = 80
	probesBudget = 8 // a probe takes at most this part of the budget
)

// ProbeTime is how long a rate is tried.
func ProbeTime(rate float64, objectives []replay.Objective, budget time.Duration) time.Duration {
	longest := 0.0
	for _, o := range objectives {
		if o.Metric != "tpot" {
			longest = max(longest, o.MaxMs)
		}
	}
	d := max(leastProbe, time.Duration(perObjective*longest*float64(time.Millisecond)), time.Duration(math.Ceil(sureRequests/rate*float64(time.Second))))
	return min(d, budget/probesBudget)
}
