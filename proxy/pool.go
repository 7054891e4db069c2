package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"wattline/proxy/rawconn"
)

// upstreamConn is a connection to the upstream, owned by one exchange at a time.
type upstreamConn struct {
	net.Conn
	raw            rawconn.Conn // reads and writes Conn
	reused         bool
	streamed       bool // its last reply was chunked
	idleAt         time.Time
	readDeadlineAt int64 // when the read deadline was last moved; 0: never
	// writeDeadlineAt is the same of the write deadline. Owned by the relaying goroutine, then by the uploader.
	writeDeadlineAt int64
}

// abort closes the connection at once, without TLS's close_notify, which can take seconds.
func (c *upstreamConn) abort() {
	if t, ok := c.Conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
	}
	_ = c.Close()
}

// maxIdleUpstream bounds the idle connections; llama-server has few HTTP threads, and each waits on one.
const maxIdleUpstream = 64

// pool keeps connections after replies that ended cleanly. The most recently used is taken first; one that was
// idle for longer than idle is closed, since the server may be about to close it.
type pool struct {
	up      Upstream
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	idle    time.Duration
	streams streamReuse

	mu     sync.Mutex // guards what follows
	conns  []*upstreamConn
	lostAt time.Time // when a request was last lost on a kept connection; zero: never
	timer  *time.Timer
	closed bool
}

// get returns a live connection, a pooled one unless fresh is set. A fresh one replaces a pooled one, so that there are
// never more than requests were live at once. timeout bounds the dialling.
func (p *pool) get(timeout time.Duration, fresh bool) (*upstreamConn, error) {
	for {
		c := p.pop()
		if c == nil {
			break
		}
		if fresh {
			_ = c.Close()
			break
		}
		if time.Since(c.idleAt) < p.idle {
			if idle, known := c.raw.Idle(); idle || !known {
				c.reused = true
				return c, nil
			}
			if c.streamed {
				p.streams.observe(false)
			}
		}
		_ = c.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return p.open(ctx)
}

// trusted reports whether a request that must not be sent twice may take a kept connection: not for a while after
// one was lost on such a connection.
func (p *pool) trusted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lostAt.IsZero() || time.Since(p.lostAt) > reuseForget
}

func (p *pool) lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lostAt = time.Now()
}

// open makes a new connection.
func (p *pool) open(ctx context.Context) (*upstreamConn, error) {
	conn, err := p.up.connect(ctx, p.dial)
	if err != nil {
		return nil, err
	}
	return &upstreamConn{Conn: conn, raw: rawconn.New(conn)}, nil
}

func (p *pool) pop() *upstreamConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.conns)
	if n == 0 {
		return nil
	}
	c := p.conns[n-1]
	p.conns[n-1] = nil
	p.conns = p.conns[:n-1]
	return c
}

// put takes a connection back after a reply that ended cleanly.
func (p *pool) put(c *upstreamConn, streamed bool) {
	c.idleAt, c.streamed = time.Now(), streamed
	if streamed && !p.streams.allowed(c) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.conns) >= maxIdleUpstream {
		_ = c.Close()
		return
	}
	p.conns = append(p.conns, c)
	if p.timer == nil {
		p.timer = time.AfterFunc(p.idle, p.expire)
	}
}

// expire closes connections that have been idle for too long and restarts the timer while any are pooled.
func (p *pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	keep := p.conns[:0]
	for _, c := range p.conns {
		if time.Since(c.idleAt) >= p.idle {
			_ = c.Close()
		} else {
			keep = append(keep, c)
		}
	}
	clear(p.conns[len(keep):])
	p.conns = keep
	if len(keep) > 0 && !p.closed {
		p.timer = time.AfterFunc(p.idle-time.Since(keep[0].idleAt), p.expire)
	}
}

func (p *pool) close() {
	p.streams.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
