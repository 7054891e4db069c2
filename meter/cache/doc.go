// Package cache finds out why a prompt was computed again: how much of it could have been reused, how much was, where it
// stopped matching, whose fault that was and what it cost.
//
// History remembers the prompts that a server has worked on, as fingerprints (meter/prompt), and judges each new one against
// the best of them. history.go is that memory, judge.go decides, server.go names what a server did, estimate.go turns bytes
// into tokens with an error, price.go fills the columns, advice.go has a sentence for each cause. CACHE.md explains all of it.
// The package is pure: no clock, goroutine or I/O.
package cache
