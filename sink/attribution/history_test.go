package attribution

import (
	"testing"
	"time"

	"wattline/gpu"
)

const milli = int64(time.Millisecond)

func ring(lag int64, at ...int64) *gpu.Batch {
	b := &gpu.Batch{Profile: gpu.ChannelBuffer, StepNs: 20 * milli, ProfileLagNs: lag}
	for _, t := range at {
		b.Samples = append(b.Samples, gpu.Sample{At: t * milli, Mw: t})
	}
	return b
}

func TestPowerCurve(t *testing.T) {
	var h powerHistory
	h.add(ring(12*milli, 1012, 1032, 1052))
	h.add(ring(12*milli, 1072, 1093, 1112, 1132))
	begin, mw := h.curve(990*milli, 1100*milli)
	if begin != 1000*milli || len(mw) != 5 || mw[0] != 1012 && mw[0] != 1032 || mw[4] != 1093 && mw[4] != 1112 {
		t.Errorf("from %d: %v", begin/milli, mw)
	}
	h.add(ring(12*milli, 1632, 1652))
	if _, mw := h.curve(990*milli, 1700*milli); mw != nil {
		t.Errorf("a hole of half a second was drawn over: %v", mw)
	}
	if begin, mw := h.curve(1610*milli, 1700*milli); begin != 1620*milli || len(mw) != 1 {
		t.Errorf("behind the hole: from %d: %v", begin/milli, mw)
	}
	h.add(&gpu.Batch{Profile: gpu.ChannelAverage, StepNs: 100 * milli, WindowNs: 1000 * milli, Samples: []gpu.Sample{{At: 1700 * milli, Mw: 1}}})
	if _, mw := h.curve(0, 1700*milli); mw != nil {
		t.Errorf("averages over a second were taken as a curve: %v", mw)
	}
	for i := range int64(3 * historySamples) {
		h.add(ring(0, 2000+i*20))
	}
	if n := len(h.samples); n > 2*historySamples {
		t.Errorf("%d samples are kept", n)
	}
}
