// Package meter reads the requests and replies of llama-server and turns each exchange into a Record: time to first token,
// tokens, inter-token times, outcome. It is pure: no clock, no goroutine, no I/O and no logging. Its caller, the relay,
// passes in the bytes with their time stamps.
//
// Start at Meter (meter.go) for how one exchange is read, at Record and Columns (record.go) for the result, and at
// DEFINITIONS.md for every formula.
package meter
