// Package energy divides the joules that a device measured among the requests that caused them.
//
// A Ledger serves one device. Its input are facts with time stamps: power samples (how the power changes in
// time), counter readings (the energy drawn) and events of requests (Event). Its output is one Result a
// request, and a Balance that is always exact:
//
//	requests + pools + idle + residual + pending = the counter's delta, in integer microjoules.
//
// The package is pure: no clock, no goroutine, no I/O, no logging. Every decision depends on the stamps of the
// data, never on when or in what batches they were handed over, so a recording gives the same results later.
//
// Facts pass through these stages:
//
//	eventqueue.go  sorts events by time
//	segmenter.go   cuts time into windows in which no request changes its phase
//	source.go      turns samples and counter readings into slices of energy
//	windowenergy.go divides the slices among windows
//	allocator.go   applies the events; divide.go divides each window's energy among requests, with the
//	               shares of idle.go, decodegroup.go, prefillpool.go and account.go
//
// coefficients.go, fit.go, decoderun.go and candidate.go learn what work costs; lag.go learns a counter's lag;
// sigma.go computes the error bars; cpu.go divides a CPU's joules. LEDGER.md explains the method and shows
// the errors.
package energy
