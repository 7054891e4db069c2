package metrics

import (
	"syscall"
	"time"
)

// cpuUsed is what this process has used so far, in its own code and in the kernel.
func cpuUsed() (user, kernel time.Duration, err error) {
	self, err := syscall.GetCurrentProcess()
	if err != nil {
		return 0, 0, err
	}
	var created, exited, inKernel, inUser syscall.Filetime
	if err := syscall.GetProcessTimes(self, &created, &exited, &inKernel, &inUser); err != nil {
		return 0, 0, err
	}
	return hundredNs(inUser), hundredNs(inKernel), nil
}

// hundredNs is a duration that Windows counts in 100 ns.
func hundredNs(t syscall.Filetime) time.Duration {
	return time.Duration(int64(t.HighDateTime)<<32|int64(t.LowDateTime)) * 100
}
