package energy

import (
	"math"
	"time"
)

// Baseline is what is known of a device's loaded and idle draw: BaseMW + SlopeMW x (temperature - RefC).
type Baseline struct {
	BaseMW  float64 `json:"base_mw"`
	SlopeMW float64 `json:"slope_mw_per_c"`
	RefC    float64 `json:"ref_c"`
	SigmaMW float64 `json:"sigma_mw"`     // rms error of predictions for quiet seconds not yet learnt from
	RiseC   float64 `json:"rise_c_per_w"` // how much each watt of load warms the sensor above what remains when it stops; 0: a usual value
	Windows int     `json:"windows"`      // quiet windows seen; 0: nothing is known
}

// idle learns the baseline from quiet windows that begin settleQuiet after the last activity, when the
// regulators have come to rest. Temperature enters as what it would be if the work stopped now: a die
// under load is hotter than the board it sits on by a rise that is gone half a second later, and the
// heat that remains is what makes an idle card draw more. Counting the momentary rise as idle draw
// would move a part of the work's own leakage out of the active joules.
type idle struct {
	Baseline
	frozen   bool
	n        float64 // faded weight of the quiet windows
	sT, sW   float64 // faded sums of temperature offset and power
	sTT, sTW float64
	err2     float64
	errN     float64
	tempC    float64 // latest reading
	haveTemp bool
	lowestMW float64 // lowest mean of any window: the stand-in until the baseline is learnt
	powerMW  float64 // mean power of the last second or so
	strayMW  float64 // mean of the last quiet windows, where they disagree with the baseline
	strayN   int     // how many of them in a row
	worked   bool    // some work of ours has been seen
	imported bool    // the baseline came from outside

	busyTempC, busyMW float64 // temperature and power when work last went on; 0 once the rise was learnt from them
}

const (
	settleQuiet  = 500 * int64(time.Millisecond)
	quietFading  = 0.9995 // a window of 250 ms: fades over some ten minutes of quiet
	slopePerBase = 0.005  // prior: half a percent of the draw per degree...
	slopeTrust   = 50     // ...held as firmly as 50 windows one degree apart
	usualRise    = 0.025  // C per W, of an H100
	// strayRel bounds by how much a quiet window may differ from a noisy baseline: one learnt from somebody
	// else's work varies so much that its sigma would excuse anything.
	strayRel = 0.3
	minQuiet = 4 // windows before the baseline counts as learnt
	// quietSoon is how long after a rest has begun it tells best what the card draws loaded and idle: later
	// it may go to sleep.
	quietSoon  = 2 * int64(time.Second)
	strayRests = 12 // more than one rest shows
	strayBelow = 20
	strayAbove = 240
)

func newIdle(b Baseline, frozen bool) idle {
	i := idle{Baseline: b, frozen: frozen, imported: b.Windows > 0, lowestMW: math.Inf(1)}
	if b.RiseC == 0 {
		i.RiseC = usualRise
	}
	if b.Windows > 0 {
		i.n = float64(min(b.Windows, 400))
		i.sW = i.n * b.BaseMW
		i.err2, i.errN = 20*b.SigmaMW*b.SigmaMW, 20
	}
	return i
}

// learnt reports whether active and idle joules can be told apart.
func (i *idle) learnt() bool { return i.Windows >= minQuiet }

func (i *idle) temperature(c float64) {
	if !i.haveTemp && i.Windows == 0 {
		i.RefC = c
	}
	i.tempC, i.haveTemp = c, true
}

// mw is the draw that the device would have now without work.
func (i *idle) mw() float64 {
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

// window shows every settled window's mean power, quiet or not.
func (i *idle) window(mw, seconds float64, working bool) {
	i.lowestMW = min(i.lowestMW, mw)
	i.powerMW += (mw - i.powerMW) * min(1, seconds/0.7)
	if working {
		i.busyTempC, i.busyMW = i.tempC, i.powerMW
		i.worked = true
	}
}

// quiet learns from a window in which the device rested; soon says that it comes right behind work.
func (i *idle) quiet(mw float64, soon bool) {
	if i.frozen {
		return
	}
	if i.learnt() {
		e := mw - i.mw()
		if math.Abs(e) > max(0.1*i.BaseMW, min(8*i.SigmaMW, strayRel*i.BaseMW)) {
			if !i.moved(mw, e, soon) {
				return // somebody else's work, or a card that went to sleep
			}
			e = 0
		}
		i.strayN = 0
		i.err2, i.errN = 0.99*i.err2+e*e, 0.99*i.errN+1
		i.SigmaMW = math.Sqrt(i.err2 / i.errN)
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

// moved reports that the idle draw itself has changed (a model was loaded, the baseline was another day's,
// or what was learnt was somebody else's work), and forgets the old one: quiet windows that agree with one
// another and not with the baseline.
func (i *idle) moved(mw, e float64, soon bool) bool {
	if i.strayN == 0 || math.Abs(mw-i.strayMW) > 0.03*i.strayMW {
		i.strayN, i.strayMW = 0, mw
	}
	i.strayN++
	i.strayMW += (mw - i.strayMW) / float64(i.strayN)
	if i.strayN < i.patience(e, soon) {
		return false
	}
	*i = idle{
		Baseline: Baseline{RiseC: i.RiseC, BaseMW: i.strayMW, Windows: minQuiet}, tempC: i.tempC, haveTemp: i.haveTemp, worked: i.worked,
		lowestMW: i.strayMW, powerMW: i.powerMW, n: minQuiet, sW: minQuiet * i.strayMW,
	}
	i.RefC = i.tempC
	return true
}

// patience is how many such windows it takes. Right behind work a few: that is loaded and idle; of a higher
// draw, which may be somebody else's work, more than one rest shows. Later a lower draw is a card that
// sleeps, unless there has been no work yet; a higher one may be somebody's steady work, and is believed
// after a minute.
func (i *idle) patience(e float64, soon bool) int {
	switch {
	case soon && e < 0:
		return minQuiet
	case soon:
		return strayRests
	case e > 0:
		return strayAbove
	case i.worked:
		return math.MaxInt
	case i.imported:
		return strayBelow
	}
	return minQuiet
}

// learnRise learns from the first quiet window after work by how much the temperature has fallen.
func (i *idle) learnRise() {
	if i.busyMW == 0 || !i.haveTemp {
		return
	}
	if load := (i.busyMW - i.BaseMW) / 1000; i.learnt() && load > 20 {
		rise := min(max((i.busyTempC-i.tempC)/load, 0), 0.2)
		i.RiseC += 0.1 * (rise - i.RiseC)
	}
	i.busyMW = 0
}
