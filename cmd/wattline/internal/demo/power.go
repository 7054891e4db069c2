package demo

import (
	"wattline/gpu"
	"wattline/gpu/sources"
)

// Simulated is the power source that every machine has.
const Simulated = "sim"

// PowerSource is the source to use: the chosen one, or the simulated card where auto finds no energy that can be read.
func PowerSource(chosen string) string {
	set, err := sources.Open(chosen, sources.Config{Clock: gpu.NewClock()})
	if err != nil { // serve says why
		return chosen
	}
	defer set.Close() //nolint:errcheck // it was only asked
	if chosen == "auto" && len(set.GPUs) == 0 && set.CPU == nil {
		return Simulated
	}
	return chosen
}
