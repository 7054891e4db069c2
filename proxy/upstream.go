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
)

// Upstream is the address of one server: http://host:port, https://host:port or unix:///path.
type Upstream struct {
	network, addr string
	tls           *tls.Config
	text          string
}

// ParseUpstream parses an upstream's URL. Its errors are sentences for the user.
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

// String is the address for rows and messages; it holds no secret.
func (u Upstream) String() string { return u.text }

// Host is the Host header for wattline's own requests.
func (u Upstream) Host() string {
	if u.network == "unix" {
		return "localhost"
	}
	return u.addr
}

// Dial opens a connection to the upstream, for wattline's own requests.
func (u Upstream) Dial(ctx context.Context) (net.Conn, error) {
	return u.connect(ctx, (&net.Dialer{}).DialContext)
}

// connect dials and, for https, does the TLS handshake.
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

// dialError makes the sentence for the client when the upstream cannot be reached.
func dialError(up Upstream, err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("wattline cannot reach the upstream %s: no answer in time", up)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return fmt.Sprintf("wattline cannot reach the upstream %s: %v", up, err)
}
