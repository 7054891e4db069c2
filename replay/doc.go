// Package replay defines benchmark workloads for a llama-server, usually reached through wattline, and computes the
// results of a run.
//
// A [Spec] holds the user's wishes: tasks and sizes, or a [Dataset], and the load. [Compile] or [CompileDataset] turns
// it into a [Plan] with a hash: the same plan sends the same prompts in the same order. Running a plan yields one
// [Exchange] a request, as the client measured it, with wattline's row of the same request where wattline is in
// between. A [Run] holds all of them; [Run.Results] computes the figures in the shape of the benchmarking guide, and
// [Run.Check] makes the validity checks.
//
// Everything here is pure: no network, no clock. Of the sub-packages, prompt makes texts of an exact number of tokens,
// client measures one request, load runs a plan, and report prints.
//
// The client shares no code with package meter, which measures in line: two instruments that agree by
// construction would prove nothing.
package replay
