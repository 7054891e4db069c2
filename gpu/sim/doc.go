// Package sim is a simulated GPU: a gpu.Source with a power that follows from the requests in flight by a
// closed-form model (Model, TruePower), seen through sensors with settable faults (Faults). Its truth can be
// read, exactly, for any interval, so that tests of the sampler and of the ledger can state their
// errors.
//
// The model is deliberately not the one that the ledger fits: power saturates, slots that are not
// neighbours cost extra, clocks droop under load, leakage follows the temperature and power relaxes
// instead of jumping. Everything that is made with it is marked gpu.Info.Simulated.
package sim
