package gpu

import "math/bits"

// callStats keeps the distribution of one group's call times in buckets of 12.5 %.
type callStats struct {
	n      int64
	maxNs  int64
	bucket [8 * 36]int64 // eighths of powers of two of microseconds
}

// add counts one call.
func (s *callStats) add(ns int64) {
	s.n++
	s.maxNs = max(s.maxNs, ns)
	s.bucket[bucketOf(ns)]++
}

// bucketOf places ns among eighths of octaves; below a microsecond all is one.
func bucketOf(ns int64) int {
	us8 := uint64(max(ns, 0)) * 8 / 1000
	if us8 < 8 {
		return 0
	}
	octave := bits.Len64(us8) - 4 // us8 in [8<<octave, 16<<octave)
	return min(octave*8+int(us8>>octave)-8, 8*36-1)
}

// quantile returns the upper end of the bucket that holds the q-th part of the calls, in ns.
func (s *callStats) quantile(q float64) int64 {
	rank := int64(q * float64(s.n))
	for i, n := range s.bucket {
		if rank -= n; rank < 0 {
			return min(s.maxNs, int64(8+i%8+1)<<(i/8)*1000/8)
		}
	}
	return s.maxNs
}
