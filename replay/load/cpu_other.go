//go:build !unix

package load

import "wattline/replay"

// ProcessCPU is not known on this system.
func ProcessCPU() replay.Num { return replay.Num{} }
