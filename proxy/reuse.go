package proxy

import (
	"sync"
	"time"
)

// The parameters of streamReuse.
const (
	reuseProbeTime = time.Second      // how long a connection is watched after a stream
	reuseProbes    = 3                // probes in a row that must stay open before connections are reused
	reuseForget    = 10 * time.Minute // from a close to the next probe
)

// streamReuse learns whether the upstream keeps a connection open after a chunked reply. llama-server (build
// 11669) promises keep-alive and closes it all the same, a moment after the last chunk. A check before the next
// use can be too early to see the close, and a request sent then would be lost. So connections are not reused
// after a stream until three in a row have stayed open for a second. One is watched at a time.
type streamReuse struct {
	probeTime time.Duration // 0: reuseProbeTime

	mu       sync.Mutex // guards what follows
	open     int        // probes in a row that stayed open
	closedAt time.Time  // of the last close; zero: none
	probe    *upstreamConn
	ended    bool
}

// allowed reports whether a connection may be used again after a stream. Otherwise it takes the connection,
// to watch it or to close it.
func (r *streamReuse) allowed(c *upstreamConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open >= reuseProbes {
		return true
	}
	if r.ended || r.probe != nil || !r.closedAt.IsZero() && time.Since(r.closedAt) < reuseForget {
		_ = c.Close()
		return false
	}
	r.probe = c
	wait := r.probeTime
	if wait == 0 {
		wait = reuseProbeTime
	}
	time.AfterFunc(wait, func() { // ends by itself; close closes its connection
		idle, known := c.raw.Idle()
		_ = c.Close()
		r.mu.Lock()
		r.probe = nil
		r.mu.Unlock()
		r.observe(idle && known)
	})
	return false
}

// observe learns from one connection: it was found open, or closed by the upstream, after a stream.
func (r *streamReuse) observe(open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if open {
		r.open++
		return
	}
	r.open, r.closedAt = 0, time.Now()
}

func (r *streamReuse) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.probe != nil {
		_ = r.probe.Close()
	}
}
