//go:build !cgo || !linux

package nvml

import (
	"fmt"

	"wattline/gpu"
)

// Built reports whether this build can talk to the library.
const Built = false

// New always fails: this build has no cgo.
func New(gpu.Clock) (gpu.Source, error) {
	return nil, fmt.Errorf("nvml: %w: this wattline was built without cgo (CGO_ENABLED=0) and has no NVML; use --gpu smi, or a build with cgo", gpu.ErrNone)
}
