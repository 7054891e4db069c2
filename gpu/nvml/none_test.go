//go:build !cgo || !linux

package nvml

import (
	"errors"
	"strings"
	"testing"

	"wattline/gpu"
)

// TestDropped: a build without cgo says that it cannot talk to the library, and what to do.
func TestDropped(t *testing.T) {
	s, err := New(gpu.NewClock())
	if s != nil || !errors.Is(err, gpu.ErrNone) || !strings.Contains(err.Error(), "without cgo") || !strings.Contains(err.Error(), "--gpu smi") {
		t.Errorf("%v, %v", s, err)
	}
	if Built {
		t.Error("it says that it was built with the library")
	}
}
