package gpu

import "wattline/meter"

// load is the history of what is in flight on a device as a step function of time, for learning lags:
// its level follows power roughly (a prefill draws about three times what a decoding request adds).
type load struct {
	at    []int64
	level []float64
	phase map[uint64]meter.Phase
	cur   float64
}

// What a request adds to the level.
func phaseLevel(p meter.Phase) float64 {
	switch p {
	case meter.PhasePrefill:
		return 3
	case meter.PhaseDecode:
		return 1
	}
	return 0
}

// observe takes an event; it returns whether anything holds a slot or waits for one.
func (l *load) observe(e Event) (busy bool) {
	if l.phase == nil {
		l.phase = map[uint64]meter.Phase{}
	}
	before, known := l.phase[e.Request]
	if e.Phase == meter.PhaseDone {
		delete(l.phase, e.Request)
	} else {
		l.phase[e.Request] = e.Phase
	}
	if !known {
		before = meter.PhaseDone
	}
	// One read of the weights serves all decoding requests: power grows less than their number. Only whether the
	// level moves with power matters here.
	if was, is := phaseLevel(before), phaseLevel(e.Phase); was != is {
		l.set(e.At, l.cur+is-was)
	}
	return len(l.phase) > 0
}

func (l *load) set(at int64, level float64) {
	l.cur = level
	if n := len(l.at); n > 0 && at <= l.at[n-1] {
		l.level[n-1] = level
		return
	}
	l.at, l.level = append(l.at, at), append(l.level, level)
}

// trim forgets steps before t but the last one.
func (l *load) trim(t int64) {
	i := 0
	for i+1 < len(l.at) && l.at[i+1] <= t {
		i++
	}
	if i > len(l.at)/2 {
		l.at = append(l.at[:0], l.at[i:]...)
		l.level = append(l.level[:0], l.level[i:]...)
	}
}

// steps counts the changes within [from, to].
func (l *load) steps(from, to int64) (n int) {
	for _, t := range l.at {
		if t >= from && t <= to {
			n++
		}
	}
	return n
}
