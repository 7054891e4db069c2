//go:build !linux

package main

import "syscall"

// endsWithParent cannot be had here; a killed test leaves its servers behind.
func endsWithParent() *syscall.SysProcAttr { return nil }
