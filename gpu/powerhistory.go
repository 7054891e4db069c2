package gpu

import "sort"

// powerHistory is the integral of a channel's samples: each value is held from the sample before it to its
// own time. Values are microjoules from an arbitrary start, as float64: the 1e-16 of a day at 700 W
// is far below a microjoule. It keeps the channel's own times; the lag is the caller's to add.
type powerHistory struct {
	at  []int64
	mw  []int64
	cum []float64 // energy up to at[i]

	gapNs int64 // a longer distance between samples is a gap
	gaps  int   // gaps seen since the curve was made
	since int64 // the end of the last gap
}

// add appends samples; those not after the last one are dropped.
func (c *powerHistory) add(samples ...Sample) {
	for _, s := range samples {
		n := len(c.at)
		if n == 0 {
			c.at, c.mw, c.cum = append(c.at, s.At), append(c.mw, s.Mw), append(c.cum, 0)
			continue
		}
		dt := s.At - c.at[n-1]
		if dt <= 0 {
			continue
		}
		held := float64(s.Mw)
		if c.gapNs > 0 && dt > c.gapNs {
			held = float64(s.Mw+c.mw[n-1]) / 2 // nothing is known of a gap but its two ends
			c.gaps++
			c.since = s.At
		}
		c.at, c.mw = append(c.at, s.At), append(c.mw, s.Mw)
		c.cum = append(c.cum, c.cum[n-1]+held*float64(dt)/1e6)
	}
}

// trim forgets what lies more than one sample before t. It copies only once half is to be forgotten,
// so that adding stays cheap.
func (c *powerHistory) trim(t int64) {
	i := c.index(t) - 1
	if i < 1 || i < len(c.at)/2 {
		return
	}
	n := copy(c.at, c.at[i:])
	copy(c.mw, c.mw[i:])
	copy(c.cum, c.cum[i:])
	c.at, c.mw, c.cum = c.at[:n], c.mw[:n], c.cum[:n]
}

// reset forgets everything.
func (c *powerHistory) reset() { c.at, c.mw, c.cum = c.at[:0], c.mw[:0], c.cum[:0] }

// index returns the first sample at or after t.
func (c *powerHistory) index(t int64) int {
	return sort.Search(len(c.at), func(i int) bool { return c.at[i] >= t })
}

// covers reports whether energy(t) is an interpolation rather than a guess.
func (c *powerHistory) covers(t int64) bool {
	n := len(c.at)
	return n > 1 && t >= c.at[0] && t <= c.at[n-1]
}

// energy returns the integral up to t in microjoules; beyond either end the nearest power is held.
func (c *powerHistory) energy(t int64) float64 {
	n := len(c.at)
	if n == 0 {
		return 0
	}
	i := c.index(t)
	switch i {
	case n:
		return c.cum[n-1] + float64(c.mw[n-1])*float64(t-c.at[n-1])/1e6
	case 0:
		return c.cum[0] - float64(c.mw[0])*float64(c.at[0]-t)/1e6
	}
	part := float64(t-c.at[i-1]) / float64(c.at[i]-c.at[i-1])
	return c.cum[i-1] + part*(c.cum[i]-c.cum[i-1])
}

// extremes returns the lowest and highest power among the samples that touch [from, to].
func (c *powerHistory) extremes(from, to int64) (low, high int64) {
	i := c.index(from)
	if i == len(c.at) {
		i--
	}
	low, high = c.mw[i], c.mw[i]
	for ; i < len(c.at); i++ {
		low, high = min(low, c.mw[i]), max(high, c.mw[i])
		if c.at[i] >= to {
			break
		}
	}
	return low, high
}

// inGap reports whether t lies between two samples so far apart that nothing is known of the power there.
func (c *powerHistory) inGap(t int64) bool {
	i := c.index(t)
	return c.gapNs > 0 && i > 0 && i < len(c.at) && c.at[i] != t && c.at[i]-c.at[i-1] > c.gapNs
}

// gapIn reports whether a gap touches [from, to].
func (c *powerHistory) gapIn(from, to int64) bool {
	if c.gapNs == 0 {
		return false
	}
	for i := max(c.index(from), 1); i < len(c.at) && c.at[i-1] < to; i++ {
		if c.at[i]-c.at[i-1] > c.gapNs {
			return true
		}
	}
	return false
}
