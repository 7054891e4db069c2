package energy

// track scales the samples' integral to the counter. What was emitted so far and what the counter shows
// differ for three reasons: the samples' scale is a little off, differently in each phase; the counter's
// ticks are known in time only so well; and samples get lost. The first is to be corrected at once, the
// second not at all, for it cancels at the next tick: paying it would move a joule or two between the
// requests on either side of the anchor. A one-dimensional Kalman filter over the amount that is owed
// tells them apart. What is not paid stays pending and is paid later; nothing is lost.
type track struct {
	scale    float64 // counter joules per sample joule; 0 before the first block
	owed2    float64 // variance of what is owed
	scaleDev float64 // relative standard deviation of a block's scale
}

const (
	firstScaleDev = 0.05
	scaleDev      = 0.004 // ring against counter, in any phase of an H100
)

// pay returns the energy to emit for a block whose samples sum to whole uJ, when owed uJ are due and the
// counter's tick errs by tickError uJ; infinity: the counter says nothing.
func (k *track) pay(whole, owed, tickError float64) int64 {
	if k.scale == 0 {
		k.scale, k.scaleDev = 1, firstScaleDev
	}
	expected := k.scale * whole
	k.owed2 += (k.scaleDev * expected) * (k.scaleDev * expected)
	gain := k.owed2 / (k.owed2 + tickError*tickError + 1)
	if tickError == 0 {
		gain = 1
	}
	k.owed2 *= 1 - gain
	correction := 0.0
	if gain > 0 {
		correction = gain * (owed - expected)
	}
	k.scale += 0.2 * correction / whole
	k.scaleDev += 0.2 * (scaleDev - k.scaleDev)
	return int64(max(expected+correction, 0))
}
