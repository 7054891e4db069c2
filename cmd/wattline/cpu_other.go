//go:build !unix

package main

import "wattline/replay"

// processCPU is not known on this system.
func processCPU() replay.Num { return replay.Num{} }
