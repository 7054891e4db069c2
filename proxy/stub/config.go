package stub

import (
	"cmp"
	"time"
)

// Config configures a Server. A duration or count of zero takes its default, a negative one means none.
type Config struct {
	// HeaderDelay is from the request's last byte to the reply's head, if a slot is free. Default 5 ms.
	HeaderDelay time.Duration
	// FirstToken is from the request's last byte to the first token, if a slot is free. The time between the
	// head and the first token is prompt_ms; it does not depend on how long the request waited for its slot.
	// Default 700 ms.
	FirstToken time.Duration
	// PingInterval is between the comment lines of a stream before its first token. Default 100 ms.
	PingInterval time.Duration
	// TokenGap is between tokens, each drawn evenly from TokenGap ± TokenJitter. Default 20 ms and none.
	TokenGap    time.Duration
	TokenJitter time.Duration

	// Slots is how many requests are processed at once; the others queue in order of arrival. Default 4.
	Slots int
	// Tokens is the length of replies to requests that set none (max_tokens, max_completion_tokens,
	// n_predict). Default 16.
	Tokens int
	// Context is a slot's size in tokens; a longer prompt is answered 400, as by llama-server. Default 131072.
	Context int

	// KeepAlive is how long an idle connection stays open, KeepAliveMax how many requests it serves.
	// Default 5 s and 100, llama-server's.
	KeepAlive    time.Duration
	KeepAliveMax int

	// Seed of the words and the jitter. The same Seed and request body give the same reply.
	Seed uint64
	// Fault applies to every request that asks for none itself.
	Fault Fault

	// PreciseSleep, if not nil, sleeps the last two milliseconds before each write: Go's timers are up to one
	// millisecond late.
	PreciseSleep func(time.Duration)
	// Record keeps an Exchange of every request, for tests. Without it a Server's memory does not grow with
	// the number of requests.
	Record bool
}

// Model is the model's name in every reply.
const Model = "stub.gguf"

func (c *Config) setDefaults() {
	c.HeaderDelay = max(cmp.Or(c.HeaderDelay, 5*time.Millisecond), 0)
	c.FirstToken = max(cmp.Or(c.FirstToken, 700*time.Millisecond), c.HeaderDelay)
	c.PingInterval = max(cmp.Or(c.PingInterval, 100*time.Millisecond), 0)
	c.TokenGap = max(cmp.Or(c.TokenGap, 20*time.Millisecond), 0)
	c.KeepAlive = max(cmp.Or(c.KeepAlive, 5*time.Second), 0)
	c.Slots = max(cmp.Or(c.Slots, 4), 1)
	c.Tokens = max(cmp.Or(c.Tokens, 16), 0)
	c.Context = cmp.Or(c.Context, 131072)
	c.KeepAliveMax = cmp.Or(c.KeepAliveMax, 100)
	c.TokenJitter = min(max(c.TokenJitter, 0), c.TokenGap)
}
