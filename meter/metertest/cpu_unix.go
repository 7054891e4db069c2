//go:build unix

package metertest

import (
	"syscall"
	"time"
)

// CPUTime is the time for which this process has used the CPU so far: unlike the clock's, it does not depend on who else
// uses the machine. 0 where it is not told.
func CPUTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
