package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Upstream is the address of one server: http://host:port, https://host:port or unix:///path.
type Upstream struct {
	network, addr string
	tls           *tls.Config
	text          string
}

// ParseUpstream reads an upstream's URL. The errors are sentences for the user.
func ParseUpstream(s string) (Upstream, error) {
	u, err := url.Parse(s)
	if err != nil && strings.Contains(s, "://") {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return Upstream{}, fmt.Errorf("upstream %q cannot be read (%w): write it as http://HOST:PORT, https://HOST:PORT or unix:///PATH", s, err)
	}
	if err != nil || u.Scheme == "" || !strings.Contains(s, "://") {
		return Upstream{}, fmt.Errorf("upstream %q has no scheme: write it as http://HOST:PORT, https://HOST:PORT or unix:///PATH", s)
	}
	up := Upstream{network: "tcp", text: u.Scheme + "://" + u.Host}
	switch u.Scheme {
	case "http", "https":
	case "unix":
		if u.Host != "" || u.Path == "" {
			return Upstream{}, fmt.Errorf("upstream %q names no socket: write it as unix:///PATH, with three slashes", s)
		}
		return Upstream{network: "unix", addr: u.Path, text: s}, nil
	default:
		return Upstream{}, fmt.Errorf("upstream %q has the scheme %q: http, https and unix are known", s, u.Scheme)
	}
	if u.Hostname() == "" {
		return Upstream{}, fmt.Errorf("upstream %q names no host: write it as %s://HOST:PORT", s, u.Scheme)
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.User != nil {
		return Upstream{}, fmt.Errorf("upstream %q has more than a host and a port: paths are passed through as the client sends them, so leave it out", s)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Upstream{}, fmt.Errorf("upstream %q has no valid port: ports go from 1 to 65535", s)
	}
	up.addr = net.JoinHostPort(u.Hostname(), port)
	if u.Scheme == "https" {
		up.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	return up, nil
}

// String is the address as it stands in rows and messages; it holds no secret.
func (u Upstream) String() string { return u.text }

// Host is the value of the Host header for a request of wattline's own.
func (u Upstream) Host() string {
	if u.network == "unix" {
		return "localhost"
	}
	return u.addr
}

// Dial opens a connection to the upstream, for whoever has a question of its own to ask.
func (u Upstream) Dial(ctx context.Context) (net.Conn, error) {
	return u.connect(ctx, (&net.Dialer{}).DialContext)
}

// connect dials and, where the upstream speaks TLS, shakes hands.
func (u Upstream) connect(ctx context.Context, dial func(ctx context.Context, network, addr string) (net.Conn, error)) (net.Conn, error) {
	conn, err := dial(ctx, u.network, u.addr)
	if err != nil {
		return nil, fmt.Errorf("proxy: dial %s: %w", u, err)
	}
	if u.tls == nil {
		return conn, nil
	}
	t := tls.Client(conn, u.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("proxy: TLS with %s: %w", u, err)
	}
	return t, nil
}

// upstreamConn is a connection to the upstream, owned by one exchange at a time.
type upstreamConn struct {
	net.Conn
	quiet   *quiet // of Conn; nil: it has none
	reused  bool
	idleAt  time.Time
	readSet int64 // when the read deadline was last moved
	// writeSet is the same of the write deadline. Owned by who writes: the relaying goroutine, then the uploader.
	writeSet int64
}

// abort ends the connection at once, without TLS's goodbye, which can take seconds.
func (c *upstreamConn) abort() {
	if t, ok := c.Conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
	}
	_ = c.Close()
}

// pool keeps connections that a reply left clean. The most recently used goes out first; none is used
// that has been idle for long enough that the server may be about to close it.
type pool struct {
	up   Upstream
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	idle time.Duration

	mu     sync.Mutex // guards what follows
	conns  []*upstreamConn
	timer  *time.Timer
	closed bool
}

// get returns a live connection, a pooled one unless fresh is set. timeout bounds the dialling.
func (p *pool) get(timeout time.Duration, fresh bool) (*upstreamConn, error) {
	for !fresh {
		c := p.pop()
		if c == nil {
			break
		}
		if time.Since(c.idleAt) < p.idle && c.alive() {
			c.reused = true
			return c, nil
		}
		_ = c.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return p.open(ctx)
}

// open makes a new connection.
func (p *pool) open(ctx context.Context) (*upstreamConn, error) {
	conn, err := p.up.connect(ctx, p.dial)
	if err != nil {
		return nil, err
	}
	return &upstreamConn{Conn: conn, quiet: newQuiet(conn)}, nil
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

// put takes a clean connection back.
func (p *pool) put(c *upstreamConn) {
	c.idleAt = time.Now()
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

// maxIdleUpstream bounds the idle connections; llama-server has few HTTP threads, and each waits on one.
const maxIdleUpstream = 64

// expire closes what has been idle for too long and sets itself again while something is pooled.
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

// alive looks, without waiting, whether an idle connection is still open and silent. A server that has
// closed it, or sent something unasked, disqualifies it.
func (c *upstreamConn) alive() bool {
	if c.quiet != nil {
		return c.quiet.silent()
	}
	sc := sysConn(c.Conn)
	if sc == nil {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) { ok = silent(int(fd)) })
	return err == nil && ok
}

// dialError makes the sentence that the client reads when the upstream cannot be had.
func dialError(up Upstream, err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("wattline cannot reach the upstream %s: no answer in time", up)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return fmt.Sprintf("wattline cannot reach the upstream %s: %v", up, err)
}
