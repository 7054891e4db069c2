// Package twin makes a twin of recorded traffic, without its texts, and tells how far it can be trusted.
//
//	store: rows, fingerprints ──► Exporter ──► trace (package trace) ──► replay --trace ──► Prove, Price
//
// [Exporter] turns rows and the fingerprints of their prompts into a trace: tree.go finds what prompts share and how many
// tokens that has, blocks.go cuts them into blocks. [Prove] compares a run of the trace on the recorded configuration with what
// was recorded (A against A), and [Price] two runs of it. TWIN.md has the method, its bounds and what is not kept.
package twin
