// Package replay drives documented synthetic workloads at a llama-server, usually through wattline, and
// says what came of them.
//
// A [Spec] is what a user asks for: tasks, prompt sizes, output sizes, load. [Compile] turns it into a
// [Plan], whose hash names the workload: the same plan sends the same prompts in the same order. Running
// a plan yields one [Exchange] a request, as the client saw it, and, where wattline stood in between, the
// row that was measured in line. A [Run] holds all of that; [Run.Results] is what may be said of it, in
// the shape of the benchmarking guide, and [Run.Check] is whether it may be believed.
//
// Everything here is pure: no network, no clock. The sub-packages have one trade each: prompt makes texts
// of exactly so many tokens, client measures one request, load runs a plan, report prints.
//
// The client shares no code with package meter, which measures in line: two instruments that agree by
// construction would prove nothing.
package replay
