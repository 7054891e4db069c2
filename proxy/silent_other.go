//go:build !unix

package proxy

// silent cannot be asked here; an idle connection is trusted until its time is up.
func silent(int) bool { return true }
