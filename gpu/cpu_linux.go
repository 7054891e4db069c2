package gpu

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadCPU returns the CPU time that this OS thread has used. The caller is locked to its thread.
func threadCPU() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
