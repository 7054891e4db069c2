// Package energy divides the joules that a device measured among the requests that caused them.
//
// A Ledger serves one device. It is fed three kinds of facts, each with its own time stamp: power
// (the shape of the draw), counter readings (the truth about its sum) and the events of requests
// (Event). It yields one Result per request, and a Balance in which nothing is ever missing:
//
//	requests + pools + idle + residual + pending = the counter's delta, in integer microjoules.
//
// The package is pure: no clock, no goroutine, no I/O, no logging. Every decision depends on the
// stamps of the data, never on when or in what batches they were handed over, so a recording fed
// afterwards gives the very numbers that were given in line.
//
// Facts pass through four stages, each in its own file:
//
//	queue.go    events, sorted by time
//	front.go    cuts time into windows in which nobody's phase changes
//	source.go   turns samples and counter readings into pieces of energy; pour.go fills the windows
//	back.go     settles full windows: idle.go, decoders.go, pool.go and rules.go hold the shares
//
// coefficients.go and fit.go hold what is learnt about the model that is served, processor.go divides a
// CPU's joules. LEDGER.md explains the reasoning and shows the errors.
package energy
