package stub

import "time"

// Config of a Server. A duration or count that is zero takes the default behind it; a negative one is
// none at all.
type Config struct {
	// HeaderDelay is from the request's last byte to the reply's head, if a slot is free. Default 5 ms.
	HeaderDelay time.Duration
	// FirstToken is from the request's last byte to the first token, if a slot is free. What lies between
	// the head and the first token is prompt_ms, and a request that had to wait for its slot takes just
	// as long from there. Default 700 ms.
	FirstToken time.Duration
	// PingInterval is between the comment pings that a stream carries before its first token. Default 100 ms.
	PingInterval time.Duration
	// TokenGap is between tokens, each drawn evenly from TokenGap ± TokenJitter. Default 20 ms and none.
	TokenGap    time.Duration
	TokenJitter time.Duration

	// Slots is how many requests are answered at once; the others queue, first come, first served. Default 4.
	Slots int
	// Tokens are generated where a request does not say how many (max_tokens, max_completion_tokens,
	// n_predict). Default 16.
	Tokens int
	// Reasoning is how many tokens of a chat reply come as reasoning_content before the others. Default 0.
	Reasoning int
	// Context is a slot's size in tokens: a longer prompt gets llama-server's 400. Default 131072.
	Context int

	// KeepAlive is how long an idle connection stays open, KeepAliveMax how many requests it serves.
	// Default 5 s and 100, llama-server's.
	KeepAlive    time.Duration
	KeepAliveMax int

	// Seed of the words and the jitter. The same Seed and request body give the same reply.
	Seed uint64
	// Fault befalls every request that asks for none itself.
	Fault Fault

	// Exactly, if not nil, sleeps out the last two milliseconds before each moment: a timer of Go's comes up to
	// one late.
	Exactly func(time.Duration)
	// Record keeps an Exchange of every request, KeepBytes all reply bytes in it: for tests. Without
	// Record a Server's memory does not grow with the requests it has served.
	Record    bool
	KeepBytes bool
}

// Model is the model's name in every reply.
const Model = "stub.gguf"

func (c *Config) setDefaults() {
	durations := []struct {
		d   *time.Duration
		def time.Duration
	}{
		{&c.HeaderDelay, 5 * time.Millisecond}, {&c.FirstToken, 700 * time.Millisecond},
		{&c.PingInterval, 100 * time.Millisecond}, {&c.TokenGap, 20 * time.Millisecond},
		{&c.KeepAlive, 5 * time.Second},
	}
	for _, x := range durations {
		if *x.d == 0 {
			*x.d = x.def
		}
		*x.d = max(*x.d, 0)
	}
	counts := []struct {
		n   *int
		def int
	}{{&c.Slots, 4}, {&c.Tokens, 16}, {&c.Context, 131072}, {&c.KeepAliveMax, 100}}
	for _, x := range counts {
		if *x.n == 0 {
			*x.n = x.def
		}
	}
	c.Slots = max(c.Slots, 1)
	c.Tokens, c.Reasoning = max(c.Tokens, 0), max(c.Reasoning, 0)
	c.TokenJitter = min(max(c.TokenJitter, 0), c.TokenGap)
	c.FirstToken = max(c.FirstToken, c.HeaderDelay)
}
