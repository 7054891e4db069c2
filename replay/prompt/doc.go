// Package prompt makes prompts of exactly so many tokens, as the server counts them.
//
// A prompt is a reference that no other prompt begins with, pieces of text drawn from a seed, filler
// words up to the exact size, and what the model is asked to do. Pieces come from this package's own
// texts, with names and numbers drawn anew for each, so that a long prompt hardly repeats itself. The same
// seed and server give the same prompt.
package prompt
