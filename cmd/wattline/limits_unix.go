//go:build unix

package main

import (
	"math"
	"syscall"
)

// openFilesLimit is how many files this process may have open; false if that is not known or without a limit.
func openFilesLimit() (int, bool) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || uint64(l.Cur) > math.MaxInt32 {
		return 0, false
	}
	return int(l.Cur), true
}
