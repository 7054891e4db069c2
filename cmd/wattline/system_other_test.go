//go:build !linux

package main

import "os/exec"

// endWithTest: only Linux ends a process with its parent.
func endWithTest(*exec.Cmd) {}
