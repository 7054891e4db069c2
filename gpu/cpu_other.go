//go:build !linux

package gpu

import "time"

// threadCPU is not known on this system: reads count as free.
func threadCPU() time.Duration { return 0 }
