// Package prompt makes fingerprints of prompts: the parts of a request's body in the order in which a server puts them
// together (template settings, tools, system, each message), each with its kind, role, length and a chain of keyed 64-bit
// hashes, one every 256 bytes. Where two prompts differ, and in what, follows from their fingerprints alone.
//
// The hash is SipHash-2-4 under a secret of the installation. It is a pseudorandom function: who does not have the key
// cannot tell its values from random numbers, so a known or guessed text cannot be confirmed, and the same text has other
// values on another installation.
//
// Start at Parse (parse.go); chain.go has the hash, compare.go finds where two prompts part and what they share behind it,
// encode.go is the form in which a fingerprint is stored. The package is pure: no clock, goroutine or I/O.
package prompt
