package gpu

import "time"

// Clock gives every stamp in this package: nanoseconds since the Unix epoch as the wall clock had it
// when the Clock was made, advanced since then by the monotonic clock alone. It never steps back, and
// two processes that compare stamps err by what the wall clock was stepped in between.
type Clock struct {
	base time.Time // carries the monotonic reading
	wall int64
}

// NewClock anchors a Clock at this moment.
func NewClock() Clock {
	now := time.Now()
	return Clock{base: now, wall: now.UnixNano()}
}

// Now returns the present moment in nanoseconds.
func (c Clock) Now() int64 { return c.wall + int64(time.Since(c.base)) }

// At returns the stamp of a time that time.Now returned in this process.
func (c Clock) At(t time.Time) int64 { return c.wall + int64(t.Sub(c.base)) }

// FromReal turns a stamp of the host's CLOCK_REALTIME, the clock of the NVIDIA driver's
// samples, into a stamp of this Clock. The difference is zero until the wall clock is stepped.
func (c Clock) FromReal(ns int64) int64 {
	now := time.Now()
	return ns + c.At(now) - now.UnixNano()
}

// Time returns the wall-clock time of a stamp.
func (c Clock) Time(ns int64) time.Time { return time.Unix(0, ns) }

// valid reports whether the Clock was made by NewClock.
func (c Clock) valid() bool { return !c.base.IsZero() }
