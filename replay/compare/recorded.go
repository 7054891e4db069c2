package compare

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"wattline/replay/archive"
	"wattline/replay/twin"
)

// FromFolder takes the requests of a run that replay --out wrote.
func FromFolder(label, dir string) (*Side, error) {
	a, err := archive.Read(dir)
	if err != nil {
		return nil, err
	}
	s := FromRun(label, a.Run)
	s.Proof, err = twin.ReadProof(dir, a.Run)
	return s, err
}

// allRequests is the one cell of two runs of a trace.
const allRequests = "all requests"

// Stretches of neighbours are drawn together, as they depend on each other.
const mostTraceStretches = 50

// recorded prepares two runs of one trace: each request is in both, so they are compared in pairs.
func (p *pairing) recorded(r *Result) {
	a, b := p.sides[0].byRecord(), p.sides[1].byRecord()
	order := slices.DeleteFunc(slices.Sorted(maps.Keys(a)), func(record int) bool { return !b[record] })
	units := min(max(len(order)/stretchRows, 1), mostTraceStretches)
	unit := map[int]int{}
	p.units = map[int]int{}
	for i, record := range order {
		unit[record] = i * units / len(order)
		p.units[unit[record]] = unit[record]
	}
	for s, side := range p.sides {
		copied := *side
		copied.observations = nil
		for _, o := range side.observations {
			if u, ok := unit[o.record]; ok && o.cell != allCells {
				o.cell, o.trial = allRequests, u*roundSize
				copied.observations = append(copied.observations, o)
			}
		}
		p.sides[s] = &copied
	}
	p.index()
	p.cells, p.share, p.paired = []string{allRequests}, []float64{1}, true
	r.Design, r.Unit, r.Units = "one trace, request by request", "stretches of requests", units
	if r.A.measured || r.B.measured {
		r.prove()
	} else { // nothing was recorded that a run could be proven by
		r.joules = true
		r.Notes = append(r.Notes, "the trace has no measurements, so no run of it can be proven: the effects are of its requests as they were sent, not of the traffic that it was made from")
	}
	if r.Refusal == "" {
		r.Price = twin.PriceOf(r.A.trace, r.A.rows, r.B.rows)
	}
}

// byRecord are the records of the trace that were answered.
func (s *Side) byRecord() map[int]bool {
	out := map[int]bool{}
	for _, o := range s.observations {
		if o.cell != allCells {
			out[o.record] = true
		}
	}
	return out
}

// prove refuses a verdict from a twin that was not proven: one of the runs must have done what was recorded.
func (r *Result) prove() {
	var failed []string
	for i, side := range []*Side{r.A, r.B} {
		switch p := side.Proof; {
		case p == nil || p.Trace != side.trace:
		case p.Passed:
			r.joules = r.joules || p.Joules
			r.proven = true
		default:
			failed = append(failed, fmt.Sprintf("%s: %s", name(i), strings.Join(p.Why, "; ")))
		}
	}
	switch {
	case r.proven:
	case len(failed) > 0:
		r.Refusal = "the twin failed its A/A test, so it may not judge; " + strings.Join(failed, ". ")
	default:
		r.Refusal = "the twin was never proven: replay the trace through wattline on the configuration that was recorded, with --out, and compare with that run"
	}
}

// ofJoules reports whether a metric is of joules.
func ofJoules(key string) bool { return key == "j_per_token" || key == "tokens_per_watt" }
