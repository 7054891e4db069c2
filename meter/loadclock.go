package meter

import (
	"sync"
	"sync/atomic"
)

// LoadState is what an upstream says of its models.
type LoadState struct {
	Asleep  bool     // a server has unloaded its model, and loads it again for the next request
	Router  bool     // it serves several models, and loads one when a request asks for it
	Loading []string // of a router: the models that are being loaded
}

// LoadClock knows when an upstream loaded a model before it served, as far as that was seen: the reply does not tell. The
// exchanges of one upstream share one. The zero value is ready; safe for concurrent use. Stamps are the relay's.
type LoadClock struct {
	asleep atomic.Bool

	mu      sync.Mutex // guards all below
	wokenAt int64      // when the first request after the sleep was sent
	awakeAt int64      // the first slot after that; 0: not known yet
	loading map[string]int64
}

// LoadLookNs is how often a router's models are looked at while one is being loaded.
const LoadLookNs = 250e6

// maxLoading bounds the models of which the last load is known.
const maxLoading = 64

// Asleep notes that the upstream sleeps, and that no request is under way.
func (c *LoadClock) Asleep() { c.asleep.Store(true) }

// Sent notes that a request that makes the model compute was sent.
func (c *LoadClock) Sent(at int64) {
	if c.asleep.Load() && c.asleep.Swap(false) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wokenAt, c.awakeAt = at, 0
	}
}

// Loading notes that a router was loading a model.
func (c *LoadClock) Loading(model string, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.loading) >= maxLoading || c.loading == nil {
		c.loading = map[string]int64{}
	}
	c.loading[model] = at
}

// served notes that a slot started.
func (c *LoadClock) served(at int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wokenAt != 0 && at > c.wokenAt && (c.awakeAt == 0 || at < c.awakeAt) {
		c.awakeAt = at
	}
}

// load returns how much of the time from when a request was sent to its slot's start the upstream loaded its model; null
// where nothing was seen of a load.
func (c *LoadClock) load(model *text, sent, start int64) Int {
	if c == nil {
		return Int{}
	}
	c.served(start)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wokenAt != 0 && sent >= c.wokenAt && sent < c.awakeAt {
		return between(sent, min(start, c.awakeAt))
	}
	seen, ok := c.loading[string(model.b)]
	if !ok || seen < sent || seen > start {
		return Int{}
	}
	if start-seen <= 2*LoadLookNs {
		seen = start // between two looks
	}
	return between(sent, seen)
}
