package serving

import (
	"os"
	"syscall"
)

// serveSignals: Windows has neither SIGHUP nor SIGUSR2 for other processes to send; a restart takes their place.
func serveSignals() []os.Signal { return []os.Signal{syscall.SIGHUP} }

// openFilesLimit: Windows has none that a process could meet.
func openFilesLimit() (int, bool) { return 0, false }
