//go:build !linux

package llama

import (
	"errors"
	"os"
	"os/exec"
)

// process ends a child, with no more than every system offers.
type process struct{ p *os.Process }

func ownGroup(*exec.Cmd) {}

// dieWithParent has no counterpart here: a killed parent leaves its server running.
func dieWithParent(*exec.Cmd) {}

func (p process) terminate() error { return ignoreDone(p.p.Signal(os.Interrupt)) }
func (p process) kill() error      { return ignoreDone(p.p.Kill()) }

func terminateGroup(p *os.Process) error { return p.Kill() }

// ignoreDone takes a process that has ended in the meantime as what was wanted.
func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
