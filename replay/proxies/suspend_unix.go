//go:build unix

package proxies

import (
	"fmt"
	"os"
	"syscall"
)

// suspender returns a function that suspends a process, or lets it continue.
func suspender(p *os.Process) func(suspended bool) error {
	return func(suspended bool) error {
		s := syscall.SIGCONT
		if suspended {
			s = syscall.SIGSTOP
		}
		if err := p.Signal(s); err != nil {
			return fmt.Errorf("the wattline that was started is gone: %w", err)
		}
		return nil
	}
}
