//go:build unix

package llama

import (
	"errors"
	"syscall"
)

// alive reports whether a process of this id, or of this group, if it is negative, exists, zombies included.
func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
