//go:build unix

package serving

import (
	"math"
	"os"
	"syscall"
)

// serveSignals reload settings (SIGHUP) or start a new process with all settings reloaded (SIGUSR2).
func serveSignals() []os.Signal { return []os.Signal{syscall.SIGHUP, syscall.SIGUSR2} }

// openFilesLimit returns how many files this process may open, or false if that is unknown or unlimited.
func openFilesLimit() (int, bool) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || uint64(l.Cur) > math.MaxInt32 {
		return 0, false
	}
	return int(l.Cur), true
}
