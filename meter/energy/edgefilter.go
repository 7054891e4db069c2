package energy

// edgeFilter scales the samples' integral to the counter. The two differ for three reasons: the samples' scale
// is a little off, differently in each phase; the time of a counter tick is uncertain; and samples get lost.
// An error of scale must be corrected at once. An error of a tick's time must not, because it cancels at the
// next tick: correcting it would move a joule or two between the requests before and after the anchor. A
// one-dimensional Kalman filter of the difference tells them apart. What is not corrected now stays pending
// and is corrected later, so nothing is lost.
type edgeFilter struct {
	scale    float64 // counter joules per sample joule; 0 before the first block
	owedVar  float64 // variance of the counter's energy minus what was emitted
	scaleDev float64 // relative standard deviation of a block's scale
}

const (
	firstScaleDev = 0.05
	usualScaleDev = 0.004 // samples against counter, in any phase of an H100
)

// correct returns the energy to emit for a block whose samples sum to whole uJ, if the counter asks for owed uJ
// and its tick has a standard error of tickError uJ; infinity: the counter says nothing.
func (k *edgeFilter) correct(whole, owed, tickError float64) int64 {
	if k.scale == 0 {
		k.scale, k.scaleDev = 1, firstScaleDev
	}
	expected := k.scale * whole
	k.owedVar += (k.scaleDev * expected) * (k.scaleDev * expected)
	gain := k.owedVar / (k.owedVar + tickError*tickError + 1)
	if tickError == 0 {
		gain = 1
	}
	k.owedVar *= 1 - gain
	correction := 0.0
	if gain > 0 {
		correction = gain * (owed - expected)
	}
	k.scale += 0.2 * correction / whole
	k.scaleDev += 0.2 * (usualScaleDev - k.scaleDev)
	return int64(max(expected+correction, 0))
}
