package monitor

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Detector finds the moment at which a series changed. It is a CUSUM (Page, Biometrika 41, 1954, p. 100) of the normal
// scores of sequential ranks: a value counts by its rank among those since the last change. As long as nothing changes,
// sequential ranks are independent and uniform whatever the distribution of the values is, so the rate of false alarms
// needs no assumption about the noise, and the baseline is learnt while it watches.
type Detector struct {
	limit float64

	order    []float64 // since the last change, in order of coming, at most maxPast
	sorted   []float64
	up, down float64
	upFrom   int // length of order when the sum was last zero
	downFrom int
	changes  int
}

// middle is the median of the baseline.
func (d *Detector) middle() float64 {
	n := len(d.sorted)
	return (d.sorted[(n-1)/2] + d.sorted[n/2]) / 2
}

const (
	// slack is how far a mean must move, in standard deviations, before the sums grow: half of what is to be found.
	slack = 0.5
	// maxPast bounds the baseline.
	maxPast = 3000
	// leastPast is how many values there must be before the sums begin.
	leastPast = 8
)

// Change is what a Detector found.
type Change struct {
	Ratio  float64 // of the values behind the change to those before it
	Behind int     // how many values are behind the change, the newest included
}

// Limit is the limit of the sums for one false alarm in so many values, when so many series are watched together, each
// both ways: Siegmund's approximation of the run length, solved for the limit.
func Limit(series, values int) float64 {
	want := float64(2 * series * values)
	low, high := 0.0, 50.0
	for range 60 {
		h := (low + high) / 2
		b := h + 1.166
		if (math.Exp(2*slack*b)-1-2*slack*b)/(2*slack*slack) < want {
			low = h
		} else {
			high = h
		}
	}
	return high
}

// Add takes the next value, a logarithm, and returns a change if it is one; else nil.
func (d *Detector) Add(v float64) *Change {
	below, _ := slices.BinarySearch(d.sorted, v)
	upTo := below
	for upTo < len(d.sorted) && d.sorted[upTo] == v {
		upTo++
	}
	n := float64(len(d.sorted) + 1)
	rank := (float64(below) + float64(upTo)) / 2 // equal values share a rank
	d.sorted = slices.Insert(d.sorted, below, v)
	d.order = append(d.order, v)
	if len(d.order) > maxPast {
		i, _ := slices.BinarySearch(d.sorted, d.order[0])
		d.sorted = slices.Delete(d.sorted, i, i+1)
		d.order = d.order[1:]
		d.upFrom, d.downFrom = max(d.upFrom-1, 0), max(d.downFrom-1, 0)
	}
	if len(d.order) <= leastPast {
		d.upFrom, d.downFrom = len(d.order), len(d.order)
		return nil
	}
	score := distuv.UnitNormal.Quantile((rank + 0.5) / n)
	d.up, d.down = max(0, d.up+score-slack), max(0, d.down-score-slack)
	if d.up == 0 {
		d.upFrom = len(d.order)
	}
	if d.down == 0 {
		d.downFrom = len(d.order)
	}
	switch {
	case d.up > d.limit:
		return d.changed(d.upFrom)
	case d.down > d.limit:
		return d.changed(d.downFrom)
	}
	return nil
}

// changed starts again with the values behind the change.
func (d *Detector) changed(from int) *Change {
	from = min(max(from, 1), len(d.order)-1)
	before, behind := d.order[:from], slices.Clone(d.order[from:])
	c := &Change{Ratio: math.Exp(median(behind) - median(before)), Behind: len(behind)}
	*d = Detector{limit: d.limit, changes: d.changes + 1, order: behind, sorted: slices.Sorted(slices.Values(behind))}
	d.upFrom, d.downFrom = len(behind), len(behind)
	return c
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
