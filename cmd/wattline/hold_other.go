//go:build !unix

package main

import "os"

// holder returns nil: a process cannot be stopped and continued here.
func holder(*os.Process) func(held bool) error { return nil }
