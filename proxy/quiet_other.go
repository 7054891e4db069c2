//go:build !linux

package proxy

import (
	"errors"
	"net"
)

// quiet is for Linux only.
type quiet struct{}

func newQuiet(net.Conn) *quiet { return nil }

func (*quiet) read([]byte) (int, error)  { return 0, errors.ErrUnsupported }
func (*quiet) write([]byte) (int, error) { return 0, errors.ErrUnsupported }

func (*quiet) readPooled(bool) (*[]byte, int, error) { return nil, 0, errors.ErrUnsupported }

func (*quiet) silent() bool { return false }
