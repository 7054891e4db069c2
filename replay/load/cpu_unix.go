//go:build unix

package load

import (
	"syscall"

	"wattline/replay"
)

// ProcessCPU is the CPU time in seconds that this process has used, on all cores, in user and kernel.
func ProcessCPU() replay.Num {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return replay.Num{}
	}
	return replay.Some(float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9)
}
