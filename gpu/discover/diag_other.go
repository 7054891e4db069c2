//go:build !linux

package discover

import "errors"

func listening(int) ([]uint32, error) { return nil, errors.ErrUnsupported }
