package twin

import (
	"fmt"

	"wattline/meter"
	"wattline/replay"
)

// Price is what another configuration costs: two runs of one trace, request by request.
type Price struct {
	Trace    string    `json:"trace_sha256"`
	Requests int       `json:"requests"`
	Measures []Measure `json:"measures"`
}

// PriceOf compares the rows of two runs of a trace: a[i] and b[i] are of record i, nil where there is none.
func PriceOf(sha string, a, b []*meter.Record) *Price {
	p := &Price{Trace: sha}
	var pairs []pair
	for i := range min(len(a), len(b)) {
		if a[i] != nil && b[i] != nil && a[i].Outcome == b[i].Outcome && asRecorded(a[i], true) {
			pairs = append(pairs, pair{
				at: i, a: sampleOfRow(a[i]), b: sampleOfRow(b[i]), left: a[i].Outcome == meter.Cancelled, unstreamed: a[i].Stream == meter.Some(0),
			})
		}
	}
	p.Requests = len(pairs)
	for i := range figures {
		m := measure(&figures[i], pairs)
		m.Bound, m.State = replay.Num{}, ""
		p.Measures = append(p.Measures, m)
	}
	return p
}

// Lines say what was measured: in percent, and for times in their unit too.
func (p *Price) Lines(joules bool) (out []string) {
	for i := range p.Measures {
		m := &p.Measures[i]
		switch {
		case m.Key == "joules" && !joules:
			out = append(out, m.Title+": no verdict, as those of the twin were not proven")
		case !m.Percent.Valid:
			out = append(out, m.Title+": not measured: "+m.Why)
		default:
			at := func(percent replay.Num) float64 { return m.A.V * percent.V / 100 }
			out = append(out, fmt.Sprintf("%s: %.4g against %.4g %s: %+.1f %% (%+.1f .. %+.1f), %+.3g %s (%+.3g .. %+.3g)",
				m.Title, m.B.V, m.A.V, m.Unit, m.Percent.V, m.Low.V, m.High.V, at(m.Percent), m.Unit, at(m.Low), at(m.High)))
		}
	}
	return out
}
