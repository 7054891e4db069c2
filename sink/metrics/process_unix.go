//go:build unix

package metrics

import (
	"syscall"
	"time"
)

// cpuUsed is what this process has used so far, in its own code and in the kernel.
func cpuUsed() (user, kernel time.Duration, err error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, 0, err
	}
	return time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano()), nil
}
