//go:build !linux

package main

func (c *benchCmd) proxies(*app) error {
	return usageError("--proxies needs Linux: it reads each process's CPU time and memory from /proc")
}

// benchRoleCmd needs Linux, as --proxies does.
type benchRoleCmd struct{}

// Run fails.
func (c *benchRoleCmd) Run(*app) error { return usageError("bench-role needs Linux") }
