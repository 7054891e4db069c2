//go:build !unix

package rawconn

// idle cannot be asked here; a pooled connection is trusted until it expires.
func idle(int) (open, known bool) { return false, false }
