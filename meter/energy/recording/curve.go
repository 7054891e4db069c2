package recording

import (
	"errors"
	"sort"
)

// curve is the energy counter over time: joules at its ticks, straight lines between.
type curve struct {
	at []int64
	j  []float64
}

// newCurve takes the moments at which the counter was seen to change.
func newCurve(readings []Reading) *curve {
	c := &curve{}
	var last *Reading
	for i := range readings {
		r := &readings[i]
		if !r.HasEnergy {
			continue
		}
		if last != nil && r.EnergyUJ != last.EnergyUJ {
			at := (last.After + r.Before) / 2
			if r.Hi > r.Lo && r.Lo > 0 {
				at = r.Lo + (r.Hi-r.Lo)/2
			}
			c.at = append(c.at, at)
			c.j = append(c.j, float64(r.EnergyUJ)/1e6)
		}
		last = r
	}
	return c
}

// curve is the device's energy: its counter, or without one the integral of its power.
func (d *Device) curve() (*curve, error) {
	c := newCurve(d.Readings)
	if len(c.at) >= 10 {
		return c, nil
	}
	c = &curve{}
	add := func(at, mw int64) {
		n := len(c.at)
		if n == 0 {
			c.at, c.j = append(c.at, at), append(c.j, 0)
			return
		}
		c.at, c.j = append(c.at, at), append(c.j, c.j[n-1]+float64(mw)/1e3*float64(at-c.at[n-1])/1e9)
	}
	for _, s := range d.Samples {
		add(s.At, s.MW)
	}
	if len(c.at) == 0 {
		for i := range d.Readings {
			if r := &d.Readings[i]; r.HasAverage {
				add(r.After-5e8, r.AverageMW) // the mean of the last second
			}
		}
	}
	if len(c.at) < 10 {
		return nil, errors.New("the recording has no power readings to score against")
	}
	return c, nil
}

// joules is the counter's value at a moment.
func (c *curve) joules(at int64) float64 {
	k := sort.Search(len(c.at), func(i int) bool { return c.at[i] >= at })
	switch {
	case k == 0:
		return c.j[0]
	case k == len(c.at):
		return c.j[k-1]
	}
	return c.j[k-1] + (c.j[k]-c.j[k-1])*float64(at-c.at[k-1])/float64(c.at[k]-c.at[k-1])
}

// mean is the mean power in W between two moments.
func (c *curve) mean(from, to int64) float64 {
	return (c.joules(to) - c.joules(from)) / (float64(to-from) / 1e9)
}
