package energy_test

import (
	"math"
	"math/rand/v2"
)

// physics is a drawn card and model. Its energy differs from the ledger's model on purpose: it saturates, a
// read of the weights by several runs of slots is cheaper than their sum, context costs a power of its
// length, decoding during a prefill is cheaper or dearer than alone, and everything droops as clocks
// fall under load. What is true of a request is its Shapley share of that game, found by enumerating
// coalitions or sampling orders of arrival.
type physics struct {
	unified       bool
	read          float64 // J per read of the weights
	readPower     float64 // reads cost read * runs^readPower
	token         float64 // J per decoded token
	context       float64 // J per decoded token at 1,000 tokens of context
	ctxPower      float64
	prompt        float64 // J per prompt token
	position      float64 // J per prompt token at 1,000 tokens of position
	posPower      float64
	duringPrefill float64 // factor on decode while a prompt is in the batch
	saturate      float64 // largest relative loss of energy at full power
	fullW         float64 // active power where half of that is reached
	droop         float64 // relative loss of energy when hot from load
	idleW         float64
	leak          float64 // W per C
	rise          float64 // C per W of the die, at once
	warm          float64 // C per W of the board, in time

	promptRate float64 // prompt tokens per second alone
	slowdown   float64 // relative, per 1,000 tokens of position
	stepTime   float64 // s of a lone decode step
	perSeq     float64 // relative growth of a step per further sequence
	batch      int     // tokens per batch
}

func drawPhysics(r *rand.Rand) physics {
	u := func(lo, hi float64) float64 { return lo + (hi-lo)*r.Float64() }
	size := math.Exp(u(math.Log(0.3), math.Log(2.5))) // small and large models
	idle := u(40, 130)
	return physics{
		unified: r.IntN(2) == 0, read: 0.44 * size * u(0.7, 1.3), readPower: u(0.85, 1),
		token: 0.32 * size * u(0.5, 1.5), context: 0.037 * u(0.5, 2), ctxPower: u(0.75, 1),
		prompt: 0.034 * size * u(0.7, 1.4), position: 0.005 * u(0.5, 2), posPower: u(0.9, 1.15),
		duringPrefill: u(0.7, 1.2), saturate: u(0, 0.12), fullW: u(300, 600), droop: u(0, 0.06),
		idleW: idle, leak: idle * u(0.002, 0.01), rise: u(0.01, 0.035), warm: u(0.02, 0.05),
		promptRate: 7700 / size * u(0.7, 1.3), slowdown: u(0.02, 0.06),
		stepTime: 0.008 * size * u(0.8, 1.25), perSeq: u(0.03, 0.12), batch: 512 << r.IntN(4),
	}
}

// part is one request's work in one iteration of the server.
type part struct {
	req     int
	slot    int
	decode  bool
	context float64 // tokens, if it decodes
	tokens  float64 // prompt tokens, if it prefills
	at      float64 // their position
}

// own is the energy of a part before anything is shared.
func (p *physics) own(x *part, duringPrefill bool) float64 {
	if x.decode {
		e := p.token + p.context*math.Pow(x.context/1000, p.ctxPower)
		if duringPrefill {
			e *= p.duringPrefill
		}
		return e
	}
	return x.tokens * (p.prompt + p.position*math.Pow((x.at+x.tokens/2)/1000, p.posPower))
}

// energy is the joint cost of the parts with their bit set in the coalition, in an iteration of so many
// seconds. scratch holds the slots that decode.
func (p *physics) energy(parts []part, in []bool, seconds float64, scratch []bool) float64 {
	clear(scratch)
	var e float64
	prompts, decoders := false, false
	for i := range parts {
		if in[i] && !parts[i].decode {
			prompts = true
		}
	}
	for i := range parts {
		if !in[i] {
			continue
		}
		x := &parts[i]
		e += p.own(x, prompts)
		if x.decode {
			decoders = true
			scratch[x.slot] = true
		}
	}
	if decoders {
		runs := 1.0
		if !p.unified {
			runs = 0
			for s := range scratch {
				if scratch[s] && (s == 0 || !scratch[s-1]) {
					runs++
				}
			}
		}
		read := p.read * math.Pow(runs, p.readPower)
		if prompts {
			read *= p.duringPrefill
		}
		e += read
	}
	w := e / seconds
	return e * (1 - p.saturate*w/(w+p.fullW))
}

// shapley adds each part's Shapley share of the iteration's energy to out. Up to six parts every
// coalition is enumerated; beyond, orders of arrival are sampled in pairs of an order and its reverse.
func (p *physics) shapley(r *rand.Rand, parts []part, seconds float64, slots int, out []float64) {
	n := len(parts)
	in := make([]bool, n)
	scratch := make([]bool, slots)
	if n <= 6 {
		p.enumerate(parts, seconds, in, scratch, out)
		return
	}
	const orders = 24
	perm := make([]int, n)
	walk := func() {
		clear(in)
		var before float64
		for _, i := range perm {
			in[i] = true
			v := p.energy(parts, in, seconds, scratch)
			out[i] += (v - before) / (2 * orders)
			before = v
		}
	}
	for range orders {
		copy(perm, r.Perm(n))
		walk()
		for a, b := 0, n-1; a < b; a, b = a+1, b-1 {
			perm[a], perm[b] = perm[b], perm[a]
		}
		walk()
	}
}

func (p *physics) enumerate(parts []part, seconds float64, in, scratch []bool, out []float64) {
	n := len(parts)
	value := make([]float64, 1<<n)
	for set := range value {
		for i := range in {
			in[i] = set&(1<<i) != 0
		}
		value[set] = p.energy(parts, in, seconds, scratch)
	}
	fact := [...]float64{1, 1, 2, 6, 24, 120, 720}
	for set := range value {
		size := 0
		for i := range n {
			size += set >> i & 1
		}
		for i := range n {
			if set&(1<<i) == 0 {
				out[i] += fact[size] * fact[n-size-1] / fact[n] * (value[set|1<<i] - value[set])
			}
		}
	}
}
