//go:build !linux

package proxies

import (
	"errors"
	"os/exec"
	"time"
)

// dieWithParent has no counterpart here.
func dieWithParent(*exec.Cmd) {}

// CPU is not known here.
func (w *Started) CPU() (time.Duration, error) {
	return 0, errors.New("the CPU time of another process is read on Linux only")
}
