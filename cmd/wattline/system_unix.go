//go:build unix

package main

import (
	"os"
	"syscall"
)

// stopSignals stop a process until it is continued, where it does not catch them: Ctrl-Z.
func stopSignals() []os.Signal { return []os.Signal{syscall.SIGTSTP} }
