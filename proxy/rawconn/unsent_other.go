//go:build !linux

package rawconn

// Unsent is not known here, so a write that has timed out is not continued.
func (c *Conn) Unsent() int { return -1 }
