package meter

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/DataDog/sketches-go/ddsketch/mapping"
)

// GapAccuracy is the relative error of a Sketch's quantiles: a quantile q is a value within 1 % of
// the exact one (the element of rank ⌊q·(n-1)⌋ of the sorted gaps).
const GapAccuracy = 0.01

// A gap shorter than shortestGapNs counts as none in the quantiles, one longer than longestGapNs (2.8 h) as
// that long.
const (
	shortestGapNs = 1e3
	longestGapNs  = 1e13
)

// binsOf is DDSketch's mapping of values to bins (Masson et al., VLDB 2019); the logarithmic one would take
// a logarithm a gap and save 1 % of the bins.
//
//nolint:gochecknoglobals // a constant table
var binsOf = sync.OnceValue(func() mapping.IndexMapping {
	m, err := mapping.NewCubicallyInterpolatedMapping(GapAccuracy)
	if err != nil {
		panic(fmt.Sprintf("meter: accuracy %v: %v", GapAccuracy, err)) // a constant: cannot happen
	}
	return m
})

// Sketch is a bounded distribution of durations: DDSketch's bins with counters of four bytes, held
// from the lowest bin used to the highest, with the exact maximum beside them. A stream with even gaps needs
// some 500 bytes, the widest one 4.6 KiB. Not safe for concurrent use.
type Sketch struct {
	bins  mapping.IndexMapping
	low   int // the bin of counts[0]
	count []uint32
	none  int64 // below shortestGapNs
	n     int64
	max   int64
}

// NewSketch returns an empty sketch. Add allocates only for a gap shorter or longer than all gaps that
// the sketch ever had, also before Reset.
func NewSketch() *Sketch { return &Sketch{bins: binsOf()} }

// Add puts a duration in, in nanoseconds. A negative one counts as zero.
func (s *Sketch) Add(ns int64) {
	s.max = max(s.max, ns)
	s.n++
	if ns < shortestGapNs {
		s.none++
		return
	}
	bin := s.bins.Index(float64(min(ns, longestGapNs)))
	i := bin - s.low
	if uint(i) >= uint(len(s.count)) { // also true for a negative i
		i = s.reach(bin)
	}
	s.count[i]++
}

// binRun is the smallest number of bins by which the counters grow.
const binRun = 64

// reach grows the counters to a bin and returns its index.
func (s *Sketch) reach(bin int) int {
	if len(s.count) == 0 {
		s.low = bin - binRun/2
		s.count = make([]uint32, binRun)
	}
	if below := s.low - bin; below > 0 {
		below = (below + binRun - 1) / binRun * binRun
		s.count = slices.Insert(s.count, 0, make([]uint32, below)...)
		s.low -= below
	}
	if above := bin - s.low - len(s.count) + 1; above > 0 {
		above = (above + binRun - 1) / binRun * binRun
		s.count = append(s.count, make([]uint32, above)...)
	}
	return bin - s.low
}

// Count returns the number of added durations.
func (s *Sketch) Count() int64 { return s.n }

// Max returns the longest duration, exactly, in nanoseconds.
func (s *Sketch) Max() int64 { return s.max }

// Quantile returns the duration of rank ⌊q·(n-1)⌋ within GapAccuracy, in nanoseconds; null when empty.
func (s *Sketch) Quantile(q float64) Int {
	if s.n == 0 {
		return Int{}
	}
	rank := int64(q * float64(s.n-1))
	below := s.none
	if rank < below {
		return Some(0)
	}
	for i, n := range s.count {
		if below += int64(n); rank < below {
			return Some(min(int64(math.Round(s.bins.Value(s.low+i))), s.max))
		}
	}
	return Some(s.max)
}

// Above counts the durations longer than ns; those within GapAccuracy of it may fall on either side.
func (s *Sketch) Above(ns int64) (above int64) {
	for i, n := range s.count {
		if n > 0 && s.bins.Value(s.low+i) > float64(ns) {
			above += int64(n)
		}
	}
	return above
}

// Reset empties the sketch and keeps its memory.
func (s *Sketch) Reset() {
	clear(s.count)
	s.none, s.n, s.max = 0, 0, 0
}
