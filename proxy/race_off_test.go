//go:build !race

package proxy

// mayDrop is for the race detector; see race_on_test.go.
const mayDrop = 0

// shadow is for the race detector; see race_on_test.go.
const shadow = 1
