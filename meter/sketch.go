package meter

import (
	"fmt"
	"math"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

// GapAccuracy is the relative error of a Sketch's quantiles: a quantile q is a value within 1 % of
// the exact one (the element of rank ⌊q·(n-1)⌋ of the sorted gaps).
const GapAccuracy = 0.01

// gapBins bounds a sketch: 1,168 bins of 8 bytes hold 1 us to 2.8 h at GapAccuracy. Shorter gaps than
// that fall into the lowest bins together.
const gapBins = 1168

const longestGapNs = 1e13 // 2.8 h; a longer gap counts as this long in the quantiles

// Sketch is a bounded, mergeable distribution of durations: a DDSketch (Masson et al., VLDB 2019) with
// the exact maximum beside it. Not safe for concurrent use.
type Sketch struct {
	dd  *ddsketch.DDSketch
	max int64
}

// NewSketch returns an empty sketch whose memory (about 9 KiB) is already there: Add never allocates.
func NewSketch() *Sketch {
	m, err := mapping.NewCubicallyInterpolatedMapping(GapAccuracy) // the logarithmic one takes a logarithm a gap and saves 1 % of the bins
	if err != nil {
		panic(fmt.Sprintf("meter: accuracy %v: %v", GapAccuracy, err)) // a constant: cannot happen
	}
	s := &Sketch{dd: ddsketch.NewDDSketch(m, store.NewCollapsingLowestDenseStore(gapBins), store.NewCollapsingLowestDenseStore(1))}
	s.Add(1e3)
	s.Add(longestGapNs)
	s.Reset()
	return s
}

// Add puts a duration in, in nanoseconds. A negative one counts as zero.
func (s *Sketch) Add(ns int64) {
	s.max = max(s.max, ns)
	// The range is clipped to what the sketch can hold, so Add has no error to return.
	_ = s.dd.Add(float64(min(max(ns, 0), longestGapNs)))
}

// Count returns how many durations were added.
func (s *Sketch) Count() int64 { return int64(s.dd.GetCount()) }

// Max returns the longest duration, exactly, in nanoseconds.
func (s *Sketch) Max() int64 { return s.max }

// Quantile returns the duration of rank ⌊q·(n-1)⌋ within GapAccuracy, in nanoseconds; null when empty.
func (s *Sketch) Quantile(q float64) Int {
	v, err := s.dd.GetValueAtQuantile(q)
	if err != nil {
		return Int{}
	}
	return Some(min(int64(math.Round(v)), s.max))
}

// Above counts the durations longer than ns; those within GapAccuracy of it may fall on either side.
func (s *Sketch) Above(ns int64) int64 {
	var n float64
	s.dd.ForEach(func(v, count float64) bool {
		if v > float64(ns) {
			n += count
		}
		return false
	})
	return int64(n)
}

// Merge adds all of o's durations.
func (s *Sketch) Merge(o *Sketch) {
	s.max = max(s.max, o.max)
	_ = s.dd.MergeWith(o.dd) // fails only for another mapping, and there is but one
}

// Reset empties the sketch and keeps its memory.
func (s *Sketch) Reset() {
	s.dd.Clear()
	s.max = 0
}
