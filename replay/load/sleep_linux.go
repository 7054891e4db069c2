package load

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// exactSleep sleeps in the kernel for some milliseconds at most; it holds an OS thread meanwhile.
func exactSleep(d time.Duration) {
	left := unix.NsecToTimespec(d.Nanoseconds())
	for errors.Is(unix.Nanosleep(&left, &left), unix.EINTR) { // the runtime's own signals
	}
}
