package main

import (
	"os/exec"
	"syscall"
)

// endWithTest makes a process end with the test that starts it, whatever ends that.
func endWithTest(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
