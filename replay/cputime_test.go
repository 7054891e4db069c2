package replay_test

import (
	"syscall"

	"wattline/replay"
)

// cpuTime is this process's CPU time in seconds: client and upstream together.
func cpuTime() replay.Num {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return replay.Num{}
	}
	return replay.Some(float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9)
}
