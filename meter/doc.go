// Package meter reads what llama-server and its client say to each other and turns it into a Record:
// time to first token, tokens, inter-token times, outcome. It is pure: no clock, no goroutine, no I/O
// and no logging. Whoever relays the bytes stamps them and shows them here.
//
// Start at Meter (meter.go) for the way of one exchange, at Record and Columns for what comes out, and
// at DEFINITIONS.md for every formula.
package meter
