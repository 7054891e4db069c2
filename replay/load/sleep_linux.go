package load

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// PreciseSleep sleeps for a few milliseconds in the kernel, which wakes a thread within some 0.1 ms; Go's
// timers may be a millisecond late. It occupies an OS thread meanwhile.
func PreciseSleep(d time.Duration) {
	if d <= 0 {
		return
	}
	left := unix.NsecToTimespec(d.Nanoseconds())
	for errors.Is(unix.Nanosleep(&left, &left), unix.EINTR) { // the runtime's own signals
	}
}
