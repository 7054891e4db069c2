package llama

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// process ends a child that leads its own process group.
type process struct{ p *os.Process }

// ownGroup gives the child a process group, so that a terminal's Ctrl-C does not reach it. With dieWithParent
// the kernel kills it when the thread that starts it ends.
func ownGroup(cmd *exec.Cmd, dieWithParent bool) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if dieWithParent {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
}

func (p process) terminate() error { return ignoreDone(p.p.Signal(syscall.SIGTERM)) }

// kill ends the process and its group (a router's children).
func (p process) kill() error {
	return ignoreDone(errors.Join(killGroup(p.p.Pid, syscall.SIGKILL), p.p.Kill()))
}

// terminateGroup sends SIGTERM to p and its children.
func terminateGroup(p *os.Process) error { return killGroup(p.Pid, syscall.SIGTERM) }

func killGroup(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(-pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// ignoreDone drops the error of a process that has ended already.
func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
