//go:build race

package proxy

// mayDrop is how many allocations an event may cost where the race detector makes pools drop what they are
// given, one time in four, to find code that uses it afterwards.
const mayDrop = 2

// shadow is how many times the memory of a process the race detector's own may make it: the detector documents five
// to ten times.
const shadow = 5
