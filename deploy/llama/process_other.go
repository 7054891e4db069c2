//go:build !linux

package llama

import (
	"errors"
	"os"
	"os/exec"
)

// process ends a child by the means that every system has.
type process struct{ p *os.Process }

// ownGroup does nothing here: a killed parent leaves its server running.
func ownGroup(*exec.Cmd, bool) {}

func (p process) terminate() error { return ignoreDone(p.p.Signal(os.Interrupt)) }
func (p process) kill() error      { return ignoreDone(p.p.Kill()) }

func terminateGroup(p *os.Process) error { return p.Kill() }

// ignoreDone drops the error of a process that has ended already.
func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
