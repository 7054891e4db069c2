package proxy

import (
	"sync"
	"time"
)

// How streamReuse learns.
const (
	reuseProbeTime = time.Second      // a connection is watched for so long after a stream
	reuseProbes    = 3                // in a row must stay open before streams' connections are used again
	reuseForget    = 10 * time.Minute // after a close, the next probe waits
)

// streamReuse learns whether the upstream keeps a connection open after a chunked reply. llama-server (build
// 11669) promises keep-alive and closes it all the same, a moment after the last chunk: a look at the
// connection before its next use can be too early to see that, and a request sent then would be lost. So a
// connection is not used again after a stream until three have been watched and stayed open for a second
// each. One is watched at a time, and a single close starts the count anew.
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
