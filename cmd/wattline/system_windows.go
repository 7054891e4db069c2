package main

import (
	"os"
	"syscall"
)

// serveSignals: Windows has neither SIGHUP nor SIGUSR2 for other processes to send; a restart takes their place.
func serveSignals() []os.Signal { return []os.Signal{syscall.SIGHUP} }

// stopSignals: Windows has none; os.Kill is never delivered, and an empty list would mean all signals.
func stopSignals() []os.Signal { return []os.Signal{os.Kill} }

// openFilesLimit: Windows has none that a process could meet.
func openFilesLimit() (int, bool) { return 0, false }
