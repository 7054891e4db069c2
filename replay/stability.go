package replay

import (
	"slices"

	"gonum.org/v1/gonum/stat"
)

// Stability is how the speed of generation held over the run. Each request's decode tokens/s is divided
// by its cell's mean first, so that cells of different size compare; a cell's only request is its own mean
// and tells nothing. All are null below six requests that do, and the drift in a run of less than a minute.
type Stability struct {
	Seconds        Num `json:"seconds"`           // from the start of the first request that tells to that of the last
	FirstThird     Num `json:"first_third"`       // mean of the first third of the requests, 1 = their cells' mean
	LastThird      Num `json:"last_third"`        // and of the last
	ChangePercent  Num `json:"change_percent"`    // of the last against the first
	DriftPercent   Num `json:"drift_percent_min"` // slope of the regression line, per minute
	VariationCoeff Num `json:"cv_percent"`        // standard deviation ÷ mean
}

const stabilityNeeds = 6

// DriftSeconds is how long a run must be for a drift per minute to be said.
const DriftSeconds = 60

func (r *Run) stability(ok []*Exchange) Stability {
	means := map[int]float64{}
	for cell, list := range byCell(ok) {
		if s := StatOf(each(list, (*Exchange).DecodeTPS)); s.N > 1 {
			means[cell] = s.Mean.V
		}
	}
	sorted := slices.Clone(ok)
	slices.SortStableFunc(sorted, func(a, b *Exchange) int { return a.StartedAt.Compare(b.StartedAt) })
	var x, y []float64
	for _, e := range sorted {
		if v := e.DecodeTPS(); v.Valid && means[e.Key.Cell] > 0 {
			x = append(x, e.StartedAt.Sub(sorted[0].StartedAt).Minutes())
			y = append(y, v.V/means[e.Key.Cell])
		}
	}
	if len(y) < stabilityNeeds {
		return Stability{}
	}
	third := len(y) / 3
	first, last := stat.Mean(y[:third], nil), stat.Mean(y[len(y)-third:], nil)
	mean, sd := stat.MeanStdDev(y, nil)
	s := Stability{
		Seconds: Some(60 * (x[len(x)-1] - x[0])), FirstThird: Some(first), LastThird: Some(last), ChangePercent: Some(100 * (last/first - 1)),
		VariationCoeff: Some(100 * sd / mean),
	}
	if s.Seconds.V >= DriftSeconds {
		_, slope := stat.LinearRegression(x, y, nil, false)
		s.DriftPercent = Some(100 * slope)
	}
	return s
}

func byCell(list []*Exchange) map[int][]*Exchange {
	out := map[int][]*Exchange{}
	for _, e := range list {
		out[e.Key.Cell] = append(out[e.Key.Cell], e)
	}
	return out
}
