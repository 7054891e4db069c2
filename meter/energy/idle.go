package energy

import (
	"math"
	"time"
)

// Baseline holds what is known about a device's loaded and idle draw: BaseMW + SlopeMW x (temperature - RefC).
type Baseline struct {
	BaseMW  float64 `json:"base_mw"`
	SlopeMW float64 `json:"slope_mw_per_c"`
	RefC    float64 `json:"ref_c"`
	SigmaMW float64 `json:"sigma_mw"`     // rms error of predictions for quiet seconds not yet learnt from
	RiseC   float64 `json:"rise_c_per_w"` // how much each watt of load warms the sensor above what remains when it stops; 0: a usual value
	Windows int     `json:"windows"`      // quiet windows seen; 0: nothing is known
}

// baselineLearner learns the baseline from quiet windows, which begin settleQuiet after the last activity, when
// the voltage regulators have come to rest. The temperature used is the one that it would have if the work stopped now:
// under load the die is hotter than the board by a rise that is gone half a second later, and an idle card
// draws more because of the heat that remains. With the momentary rise included, a part of the work's own
// leakage would count as idle draw.
type baselineLearner struct {
	Baseline
	frozen    bool
	n         float64 // faded weight of the quiet windows
	sT, sW    float64 // faded sums of temperature offset and power
	sTT, sTW  float64
	errSum    float64
	errWeight float64
	tempC     float64 // latest reading
	haveTemp  bool
	lowestMW  float64 // lowest mean of any window: used until the baseline is learnt
	powerMW   float64 // mean power of the last second or so
	outlierMW float64 // mean of the last quiet windows that contradict the baseline
	outliers  int     // how many of them in a row
	sawWork   bool    // some work of ours has been seen
	imported  bool    // the baseline came from outside

	risenMW    float64 // by how much the baseline rose when it was learnt anew
	risenUntil int     // windows after which that is believed

	busyTempC, busyMW float64 // temperature and power when work last went on; 0 once the rise was learnt from them
}

const (
	settleQuiet  = 500 * int64(time.Millisecond)
	quietFading  = 0.9995 // a window of 250 ms: fades over some ten minutes of quiet
	slopePerBase = 0.005  // prior: half a percent of the draw per degree...
	slopeTrust   = 50     // ...held as firmly as 50 windows one degree apart
	usualRise    = 0.025  // C per W, of an H100
	// maxSigmaExcuse bounds, relative to the baseline, by how much a quiet window may differ from it because
	// the baseline is noisy. One learnt from another process's work has so large a sigma that any window
	// would pass.
	maxSigmaExcuse = 0.3
	minQuiet       = 4 // windows before the baseline counts as learnt
	// soonAfterWork: quiet windows up to here show best what the card draws with a model loaded; later it may go
	// to sleep.
	soonAfterWork     = 2 * int64(time.Second)
	outliersAfterWork = 12 // more than one pause shows
	outliersBelow     = 20
	outliersAbove     = 240
)

func newBaselineLearner(b Baseline, frozen bool) baselineLearner {
	i := baselineLearner{Baseline: b, frozen: frozen, imported: b.Windows > 0, lowestMW: math.Inf(1)}
	if b.RiseC == 0 {
		i.RiseC = usualRise
	}
	if b.Windows > 0 {
		i.n = float64(min(b.Windows, 400))
		i.sW = i.n * b.BaseMW
		i.errSum, i.errWeight = 20*b.SigmaMW*b.SigmaMW, 20
	}
	return i
}

// learnt reports whether active and idle joules can be told apart.
func (i *baselineLearner) learnt() bool { return i.Windows >= minQuiet }

func (i *baselineLearner) temperature(c float64) {
	if !i.haveTemp && i.Windows == 0 {
		i.RefC = c
	}
	i.tempC, i.haveTemp = c, true
}

// mw is the draw that the device would have now without work.
func (i *baselineLearner) mw() float64 {
	if i.Windows == 0 {
		if math.IsInf(i.lowestMW, 1) {
			return 0
		}
		return i.lowestMW
	}
	if !i.haveTemp {
		return i.BaseMW
	}
	rest := i.tempC - i.RiseC*max(0, i.powerMW-i.BaseMW)/1000
	return i.BaseMW + i.SlopeMW*(rest-i.RefC)
}

// doubt is the part of the idle draw that may be another process's.
func (i *baselineLearner) doubt() float64 {
	if i.Windows >= i.risenUntil || i.BaseMW <= 0 {
		return 0
	}
	return i.risenMW / i.BaseMW
}

// window takes every settled window's mean power, quiet or not.
func (i *baselineLearner) window(mw, seconds float64, working bool) {
	i.lowestMW = min(i.lowestMW, mw)
	i.powerMW += (mw - i.powerMW) * min(1, seconds/0.7)
	if working {
		i.busyTempC, i.busyMW = i.tempC, i.powerMW
		i.sawWork = true
	}
}

// quiet learns from a window in which the device rested; soon says that work ended just before.
func (i *baselineLearner) quiet(mw float64, soon bool) {
	if i.frozen {
		return
	}
	if i.learnt() {
		e := mw - i.mw()
		if math.Abs(e) > max(0.1*i.BaseMW, min(8*i.SigmaMW, maxSigmaExcuse*i.BaseMW)) {
			if !i.relearn(mw, e, soon) {
				return // another process's work, or a card that went to sleep
			}
			e = 0
		}
		i.outliers = 0
		i.errSum, i.errWeight = 0.99*i.errSum+e*e, 0.99*i.errWeight+1
		i.SigmaMW = math.Sqrt(i.errSum / i.errWeight)
	}
	i.learnRise()
	t := 0.0
	if i.haveTemp {
		t = i.tempC - i.RefC
	}
	i.n, i.sT, i.sW = quietFading*i.n+1, quietFading*i.sT+t, quietFading*i.sW+mw
	i.sTT, i.sTW = quietFading*i.sTT+t*t, quietFading*i.sTW+t*mw
	i.Windows++
	mT, mW := i.sT/i.n, i.sW/i.n
	prior := slopePerBase * mW
	i.SlopeMW = max(0, (i.sTW-i.n*mT*mW+slopeTrust*prior)/(i.sTT-i.n*mT*mT+slopeTrust))
	i.BaseMW = mW - i.SlopeMW*mT
}

// relearn forgets a baseline that enough quiet windows contradict in agreement with one another, and begins a new
// one: a model was loaded, the baseline came from another day, or it was learnt from another process's work.
func (i *baselineLearner) relearn(mw, e float64, soon bool) bool {
	if i.outliers == 0 || math.Abs(mw-i.outlierMW) > 0.03*i.outlierMW {
		i.outliers, i.outlierMW = 0, mw
	}
	i.outliers++
	i.outlierMW += (mw - i.outlierMW) / float64(i.outliers)
	if i.outliers < i.windowsNeeded(e, soon) {
		return false
	}
	*i = baselineLearner{
		Baseline: Baseline{RiseC: i.RiseC, BaseMW: i.outlierMW, Windows: minQuiet}, tempC: i.tempC, haveTemp: i.haveTemp, sawWork: i.sawWork,
		lowestMW: i.outlierMW, powerMW: i.powerMW, n: minQuiet, sW: minQuiet * i.outlierMW,
	}
	i.RefC = i.tempC
	if e > 0 { // it may be another process's draw that lasts
		i.risenMW, i.risenUntil = e, i.Windows+outliersAbove
	}
	return true
}

// windowsNeeded is how many such windows it takes. Just after work few, since the card is loaded and idle then;
// more than one pause shows if the draw is higher, which may be another process's work. Later, a lower draw is
// a card that sleeps, unless there has been no work yet; a higher one is believed after a minute.
func (i *baselineLearner) windowsNeeded(e float64, soon bool) int {
	switch {
	case soon && e < 0:
		return minQuiet
	case soon:
		return outliersAfterWork
	case e > 0:
		return outliersAbove
	case i.sawWork:
		return math.MaxInt
	case i.imported:
		return outliersBelow
	}
	return minQuiet
}

// learnRise learns from the first quiet window after work by how much the temperature has fallen.
func (i *baselineLearner) learnRise() {
	if i.busyMW == 0 || !i.haveTemp {
		return
	}
	if load := (i.busyMW - i.BaseMW) / 1000; i.learnt() && load > 20 {
		rise := min(max((i.busyTempC-i.tempC)/load, 0), 0.2)
		i.RiseC += 0.1 * (rise - i.RiseC)
	}
	i.busyMW = 0
}
