//go:build !unix

package proxies

import "os"

// suspender returns nil: a process cannot be suspended on this system.
func suspender(*os.Process) func(held bool) error { return nil }
