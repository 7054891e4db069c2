//go:build !linux

package serverflags

// listener finds nothing: only Linux shows whose port it is without tools of its own.
func listener(string) (program, error) { return program{}, ErrNotFound }
