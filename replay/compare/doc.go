// Package compare tells whether B is better or worse than A, by how much, and how sure that is.
//
// A [Side] holds the measured requests of A or of B: of a run of replay ([FromRun]), or of stored rows ([FromRows]).
// [Compare] returns for each metric the ratio of B to A with a 95 % interval, a verdict ([Better], [Worse], [Same] within
// the margin, [CannotTell]) and the floor: what A against A shows in the same session.
//
// The statistic. Values are logarithms, so that effects are ratios. A cell's effect is the difference of its means; the
// whole is their weighted mean: equal weights for the cells of a workload, the common mix for strata of stored rows.
// Requests of one trial are not independent, so trials are the units: the standard error is that of the trials'
// influences, and the interval is a bootstrap-t (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 12.5) whose
// resamples draw trials and, within each, requests. In an interleaved session the unit is a round A B B A, within which a
// steady drift cancels. Several metrics are corrected for by Holm's method.
//
// Everything here is pure; package live measures two endpoints interleaved.
package compare
