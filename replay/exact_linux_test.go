package replay_test

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// exactly sleeps on a thread of its own, which the kernel wakes within 0.1 ms.
func exactly(d time.Duration) {
	if d <= 0 {
		return
	}
	left := unix.NsecToTimespec(d.Nanoseconds())
	for errors.Is(unix.Nanosleep(&left, &left), unix.EINTR) { // the runtime's own signals
	}
}
