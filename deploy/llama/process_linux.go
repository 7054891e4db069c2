package llama

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// process ends a child that leads its own process group.
type process struct{ p *os.Process }

// ownGroup keeps a terminal's Ctrl-C from the child: its owner decides when it ends.
func ownGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

// dieWithParent has the kernel kill the child when the thread that starts it ends. See Server.spawn.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

func (p process) terminate() error { return ignoreDone(p.p.Signal(syscall.SIGTERM)) }

// kill ends the process and its group (a router's children).
func (p process) kill() error {
	return ignoreDone(errors.Join(killGroup(p.p.Pid, syscall.SIGKILL), p.p.Kill()))
}

// terminateGroup asks p and all it has started to end.
func terminateGroup(p *os.Process) error { return killGroup(p.Pid, syscall.SIGTERM) }

func killGroup(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(-pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// ignoreDone takes a process that has ended in the meantime as what was wanted.
func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
