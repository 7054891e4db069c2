package energy

import (
	"math"
	"time"
)

// average deconvolves a sensor that shows the mean of the last second (RTX-class power.draw). The unknowns are the
// energies of the cells, the times between readings; a reading is the sum of the cells it covers. A Kalman
// filter predicts each new cell from the requests' phases (windows, coefficients, baseline), corrects all
// cells by each reading, and releases a cell that no later reading covers. Differences of readings would be
// exact for a perfect sensor, but add up the noise of a real one.
type average struct {
	length  int64
	waiting fifo[sample]
	cell    [maxCells]cell
	n       int
	cov     [maxCells][maxCells]float64
	lastMW  float64
	carry   float64
	dropped int64 // cells released before the last reading that covers them
}

type cell struct {
	t0, t1 int64
	uj     float64
	gap    bool
	before bool // lies before the ledger began: never emitted
}

// maxCells holds a 1 s average that is read every 20 ms.
const maxCells = 56

func newAverage(length time.Duration) average { return average{length: int64(length)} }

// deconvolve takes the next waiting reading, if the windows of its time are cut, and reports whether it did.
func (s *source) deconvolve(l *Ledger) bool {
	a := &s.average
	if a.waiting.len() == 0 {
		if s.closed && a.n > 0 {
			s.release()
			return true
		}
		return false
	}
	p := *a.waiting.at(0)
	lag := int64(s.lag)
	if !l.segmenter.started {
		l.segmenter.start(p.t0 - lag)
		l.segment()
	}
	if l.segmenter.open.t0 < p.t1-lag && !l.segmenter.closing {
		return false
	}
	a.waiting.pop()
	restart := a.restarts(p)
	if restart { // what was drawn in between is not known
		for a.n > 0 {
			s.release()
		}
		s.emitLost(p.t0, p.t1-a.length)
		p.t0 = p.t1 - a.length
	}
	mean := float64(p.mw) * float64(p.t1-p.t0) * 1e-6
	if a.n == 0 && !restart {
		a.begin(p)
	}
	uj, sd := mean, mean
	if l.allocator.idle.learnt() {
		uj, sd = l.expect(p.t0-lag, p.t1-lag)
	}
	a.predict(p, uj, sd)
	a.correct(p)
	for a.n > 0 && (a.cell[0].t1 <= p.t1-a.length || a.n == maxCells) {
		if a.cell[0].t1 > p.t1-a.length {
			a.dropped++
		}
		s.release()
	}
	return true
}

// restarts reports whether a reading comes so late that it does not reach back to the one before it.
func (a *average) restarts(p sample) bool { return p.gap && p.t1-p.t0 > max(a.length, longGap) }

// begin makes one cell of the time before the first reading that later readings still cover.
func (a *average) begin(p sample) {
	uj := float64(p.mw) * float64(a.length-(p.t1-p.t0)) * 1e-6
	a.predict(sample{t0: p.t1 - a.length, t1: p.t0}, uj, 0.1*uj)
	a.cell[0].before = true
}

// predict adds the cell of a new reading.
func (a *average) predict(p sample, uj, sd float64) {
	i := a.n
	a.n++
	a.cell[i] = cell{t0: p.t0, t1: p.t1, uj: uj, gap: p.gap}
	for j := range a.n {
		a.cov[i][j], a.cov[j][i] = 0, 0
	}
	a.cov[i][i] = sd * sd
}

// correct applies the reading p: the mean over the last length.
func (a *average) correct(p sample) {
	from := p.t1 - a.length
	var h [maxCells]float64
	covered, sum := int64(0), 0.0
	for j := range a.n {
		c := &a.cell[j]
		ov := c.t1 - max(c.t0, from)
		if ov <= 0 {
			continue
		}
		h[j] = float64(ov) / float64(c.t1-c.t0)
		covered += ov
		sum += h[j] * c.uj
	}
	seconds := float64(a.length) / 1e9
	jump := math.Abs(float64(p.mw) - a.lastMW)
	if a.lastMW == 0 {
		jump = 0
	}
	a.lastMW = float64(p.mw)
	// Noise: half a watt of the sensor's own, and 2 % of a change from its timing.
	r := (500 + 0.02*jump) * seconds * 1e3
	want := float64(p.mw) * float64(covered) * 1e-6
	a.update(&h, want-sum, r*r)
}

func (a *average) update(h *[maxCells]float64, miss, r2 float64) {
	var g [maxCells]float64
	v := r2
	for i := range a.n {
		for j := range a.n {
			g[i] += a.cov[i][j] * h[j]
		}
		v += h[i] * g[i]
	}
	for i := range a.n {
		a.cell[i].uj += g[i] / v * miss
		for j := range a.n {
			a.cov[i][j] -= g[i] * g[j] / v
		}
	}
}

// release emits the oldest cell.
func (s *source) release() {
	a := &s.average
	c := a.cell[0]
	if !c.before {
		e := max(c.uj, 0) + a.carry
		// No more can be emitted than the readings have shown so far.
		uj := min(int64(math.Floor(e)), s.total-s.emitted)
		a.carry = min(e-float64(uj), 1)
		s.emit(c.t0, c.t1, uj, c.gap)
	}
	copy(a.cell[:], a.cell[1:a.n])
	for i := 1; i < a.n; i++ {
		copy(a.cov[i-1][:], a.cov[i][1:a.n])
	}
	a.n--
}
