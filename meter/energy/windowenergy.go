package energy

import "math"

// distribute divides a slice of energy among the windows that it overlaps: the idle draw by time, the rest by
// the power that the model expects of each window. So a slice that straddles the end of a prefill does not
// charge the decoding after it with the prefill's draw.
func (l *Ledger) distribute(p energySlice) {
	seg := &l.segmenter
	var span, expected float64
	last := seg.complete
	for i := seg.complete; i < seg.windows.len(); i++ {
		w := seg.windows.at(i)
		if w.t0 >= p.t1 {
			break
		}
		last = i + 1
		ov := overlap(w, p)
		span += ov
		expected += ov * l.expectedMW(w)
	}
	active := max(0, float64(p.uj)-l.allocator.idle.mw()*float64(p.t1-p.t0)*1e-6)
	if expected <= 0 {
		active = 0
	}
	rest := float64(p.uj) - active
	var sum float64
	var given int64
	for i := seg.complete; i < last; i++ {
		w := seg.windows.at(i)
		ov := overlap(w, p)
		if span > 0 {
			sum += rest * ov / span
		}
		if expected > 0 {
			sum += active * ov * l.expectedMW(w) / expected
		}
		upTo := min(int64(math.Round(sum)), p.uj)
		if i == last-1 {
			upTo = p.uj
		}
		w.uj += upTo - given
		l.allocator.distributed += upTo - given
		if p.lost {
			w.lost += int64(ov)
		} else {
			w.covered += int64(ov)
		}
		if p.t1-p.t0 > longGap && p.gap {
			w.shapeless += float64(upTo - given)
		}
		w.estimated = w.estimated || p.gap
		if w.t1 <= p.t1 {
			w.complete = true
		}
		given = upTo
	}
	if last == seg.complete { // no window has begun yet
		l.allocator.residual(p.uj)
	}
	for seg.complete < seg.windows.len() && seg.windows.at(seg.complete).complete {
		seg.complete++
	}
}

func overlap(w *window, p energySlice) float64 {
	return float64(max(0, min(w.t1, p.t1)-max(w.t0, p.t0)))
}

// expectedMW is the active power that the model expects of a window. Only its proportion to that of
// neighbouring windows matters.
func (l *Ledger) expectedMW(w *window) float64 {
	if w.prefills+w.decoders == 0 {
		if w.tail {
			return 0.05 * l.allocator.decodeMW(1)
		}
		return 0
	}
	ns := float64(w.t1 - w.t0)
	var uj float64
	if w.decoders > 0 {
		for _, g := range l.busyGroups {
			uj += w.steps[g.index] * g.stepCost(float64(w.decoders))
		}
		if uj == 0 && w.prefills == 0 {
			return l.allocator.decodeMW(int(w.decoders))
		}
	}
	if w.prefills > 0 {
		prompt, _ := l.expectedPrompt(w)
		uj += prompt
	}
	return uj / ns * 1e6
}

// expectedPrompt is the active energy in uJ that prefill is expected to take in a window, and its standard
// deviation. If the prefill span ended soon after the window, it is the work guessed from the prompts' sizes,
// spread over their time; else the power that prefills usually draw.
func (l *Ledger) expectedPrompt(w *window) (uj, sd float64) {
	s := &l.segmenter.prefillSpans[w.prefillSpan%maxPrefillSpans]
	ns := float64(w.t1 - w.t0)
	peak := l.allocator.prefillMW() * ns * 1e-6
	if s.t1 <= s.t0 || s.t1 > w.t1+maxStepSpread || !s.sized {
		return peak, peak * 10
	}
	for _, g := range l.busyGroups {
		t := s.terms[g.index]
		if t == [unknowns]float64{} {
			continue
		}
		if !g.model.prefill.learnt() {
			return peak, peak * 10
		}
		uj += dot(t, g.model.prefill.coef)
	}
	uj = min(uj*ns/float64(s.t1-s.t0), 1.5*peak)
	return uj, 0.25 * uj
}

// expect is the energy in uJ that the model expects between t0 and t1, and its standard deviation.
func (l *Ledger) expect(t0, t1 int64) (uj, sd float64) {
	p := energySlice{t0: t0, t1: t1}
	idleMW := l.allocator.idle.mw()
	var variance float64
	for i := range l.segmenter.windows.len() {
		w := l.segmenter.windows.at(i)
		if w.t0 >= t1 {
			break
		}
		ov := overlap(w, p)
		if ov == 0 {
			continue
		}
		mw := l.expectedMW(w)
		rel := 0.1
		switch {
		case w.prefills > 0:
			rel = 0.3
		case w.tail:
			mw, rel = 0, 0
			variance += math.Pow(0.1*l.allocator.decodeMW(1)*ov*1e-6, 2)
		case w.decoders == 0 && w.inFlight > 0:
			variance += math.Pow(0.05*l.allocator.decodeMW(1)*ov*1e-6, 2)
		}
		uj += (idleMW + mw) * ov * 1e-6
		one := (rel*mw + 0.01*idleMW + 500) * ov * 1e-6
		variance += one * one
	}
	return uj, math.Sqrt(variance)
}
