//go:build !linux

package host

import "errors"

func listening(int) ([]uint32, error) { return nil, errors.ErrUnsupported }
