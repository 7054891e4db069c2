package handover

import "errors"

// duplicate: Windows passes no sockets on to a new process.
func duplicate(uintptr) (int, error) { return -1, errors.ErrUnsupported }
