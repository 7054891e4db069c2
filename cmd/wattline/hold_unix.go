//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// holder returns what stops a process where it stands and lets it go on.
func holder(p *os.Process) func(held bool) error {
	return func(held bool) error {
		s := syscall.SIGCONT
		if held {
			s = syscall.SIGSTOP
		}
		if err := p.Signal(s); err != nil {
			return fmt.Errorf("the wattline that was started is gone: %w", err)
		}
		return nil
	}
}
