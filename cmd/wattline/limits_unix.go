//go:build unix

package main

import (
	"math"
	"syscall"
)

// openFilesLimit returns how many files this process may open, or false if that is unknown or unlimited.
func openFilesLimit() (int, bool) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || uint64(l.Cur) > math.MaxInt32 {
		return 0, false
	}
	return int(l.Cur), true
}
