package energy

import "math"

// CPUSplit divides a processor's joules (RAPL packages and DRAM) between the server and the rest of the host, by
// the CPU time that each used. The server's part is a counter for a ledger, so a request's CPU joules follow
// the same rules as its GPU joules. Nothing is lost: Server + Host is the sum of the input.
type CPUSplit struct {
	Server, Host int64 // uJ since the start
	carry        float64
}

// Add takes the energy drawn since the last call, in uJ, and the CPU time used since then by the server and by all
// processes (the server included), in any common unit. Without any CPU time all energy is the host's.
func (p *CPUSplit) Add(uj int64, server, all float64) {
	share := 0.0
	if all > 0 {
		share = min(max(server/all, 0), 1)
	}
	exact := float64(uj)*share + p.carry
	part := int64(math.Floor(min(max(exact, 0), float64(uj))))
	p.carry = min(max(exact-float64(part), 0), 1)
	p.Server += part
	p.Host += uj - part
}
