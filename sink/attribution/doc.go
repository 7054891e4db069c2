// Package attribution turns the proxy's events and the devices' power samples into the energy columns of rows.
//
//	proxy events ──► RouteObserver ─┐
//	                                ├──► settler ──► energy.Ledger (one a device) ──► rows
//	power samples ─► sampledDevice ─┘
//
//	pipeline.go   Start, Config, Stop
//	route.go      which devices a route's upstream computes on, also when it moves
//	device.go     a device that can be sampled: its sampler, its users, its seconds for table power
//	cpu.go        a server's part of the machine's CPU energy
//	observer.go   what the proxy tells of a request, as events of the ledger
//	settler.go    rows wait for their joules; settlersteps.go feeds the ledgers, ledger.go is one device's ledger
//	fill.go       writes the energy columns
//	memory.go     what was learnt of devices and models, kept between runs
//	history.go    the power of the last half hour, for /api/energy
//	recorder.go   writes a recording; offline.go attributes one with the same ledger
//
// A row goes into the queue the moment its request has ended, with energy_quality pending, and a second time, with its
// energy columns filled, once these are final ("settled"). The client never waits for that. Without a device rows are
// final at once, with energy_quality unavailable.
package attribution
