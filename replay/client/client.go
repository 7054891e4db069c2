package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config of a Client.
type Config struct {
	Endpoint string // http://host:port or unix:///path of a llama-server, or of wattline in front of one
	APIKey   string // sent as a bearer token; never kept anywhere
	Password string // sent as HTTP basic where there is no APIKey; never kept either
	Agent    string // User-Agent
	RunID    string // names this run's requests in wattline's rows (label "replay")
	// TLS is used with https, and over a unix socket where it is not nil; nil: the system's certificates.
	TLS *tls.Config
	// LoadTimeout is how long a 503 ("Loading model") is waited for. Default: 5 minutes.
	LoadTimeout time.Duration
}

// Client talks to one server. It is safe for use by several goroutines.
type Client struct {
	cfg    Config
	name   string // the endpoint, as the user writes it
	base   string // of URLs
	http   *http.Client
	events atomic.Int64
	admin  atomic.Pointer[string] // as the newest reply named it
	inLine atomic.Bool            // a wattline answers
	bufs   sync.Pool              // of *capture
}

// New checks the endpoint's form; it connects to nothing yet.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.Endpoint)
	dialer, base := &net.Dialer{Timeout: 10 * time.Second}, strings.TrimSuffix(cfg.Endpoint, "/")
	dial := dialer.DialContext
	switch {
	case err == nil && u.Scheme == "unix" && u.Host == "" && u.Path != "":
		if base = "http://localhost"; cfg.TLS != nil {
			base = "https://localhost"
		}
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", u.Path)
		}
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return nil, fmt.Errorf("--endpoint %q is no address: write it as http://HOST:PORT or unix:///PATH", cfg.Endpoint)
	}
	if cfg.LoadTimeout <= 0 {
		cfg.LoadTimeout = 5 * time.Minute
	}
	transport := &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     cfg.TLS,
		MaxIdleConns:        0,
		MaxIdleConnsPerHost: 8192,
		// llama-server closes a connection that was idle for five seconds.
		IdleConnTimeout:    3500 * time.Millisecond,
		DisableCompression: true,
		ReadBufferSize:     64 << 10,
	}
	return &Client{
		cfg: cfg, name: strings.TrimSuffix(cfg.Endpoint, "/"), base: base,
		http: &http.Client{Transport: transport},
		bufs: sync.Pool{New: func() any { return new(capture) }},
	}, nil
}

// Endpoint is where the requests go.
func (c *Client) Endpoint() string { return c.name }

// Host is the endpoint's host:port.
func (c *Client) Host() string {
	_, host, _ := strings.Cut(c.name, "://")
	return host
}

// Events is how many events have arrived in all streams so far.
func (c *Client) Events() int64 { return c.events.Load() }

// Admin is the admin listener that the endpoint's replies name; "" if it is not a wattline, or one whose
// listener is not reachable from here: an address of the loopback means the endpoint's own host, as does a unix socket.
func (c *Client) Admin() string {
	p := c.admin.Load()
	if p == nil || isLoopback(*p) && !isLoopback(c.name) || !strings.HasPrefix(*p, "http") && !strings.HasPrefix(*p, "unix:") {
		return ""
	}
	return *p
}

// SameHost reports whether two URLs name one host, whatever the port; all of the loopback is one host.
func SameHost(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	return errA == nil && errB == nil && (strings.EqualFold(ua.Hostname(), ub.Hostname()) || isLoopback(a) && isLoopback(b))
}

func isLoopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "unix" || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// learn reads wattline's headers of a reply.
func (c *Client) learn(h http.Header) {
	if h.Get("X-Wattline-Id") != "" {
		c.inLine.Store(true)
	}
	if a := h.Get("X-Wattline-Admin"); a != "" {
		c.admin.Store(&a)
	}
}

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// questionTimeout bounds one question about the server; a server with all HTTP threads taken by
// streams answers late.
const questionTimeout = 60 * time.Second

// statusError is an answer other than 200.
type statusError struct {
	path, status, message string
	code                  int
}

func (e *statusError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("%s: %s", e.path, e.status)
	}
	return fmt.Sprintf("%s: %s: %s", e.path, e.status, e.message)
}

// StatusOf is the HTTP status in an error of this package, 0 if there was no answer.
func StatusOf(err error) int {
	if s, ok := errors.AsType[*statusError](err); ok {
		return s.code
	}
	return 0
}

// ask sends one question and decodes the JSON answer; body nil is a GET.
func (c *Client) ask(ctx context.Context, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	method, content := http.MethodGet, io.Reader(nil)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("client: %s: %w", path, err)
		}
		method, content = http.MethodPost, bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return fmt.Errorf("client: %s: %w", path, err)
	}
	c.headers(req)
	// A question may be asked twice: this tells the transport so, and is not sent. It then tries again
	// where a kept connection was closed under it.
	req.Header["X-Idempotency-Key"] = nil
	resp, err := c.http.Do(req)
	if err != nil {
		return c.refused(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	c.learn(resp.Header)
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return c.refused(err)
	}
	if resp.StatusCode != http.StatusOK {
		return &statusError{path, resp.Status, message(text), resp.StatusCode}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s answers %s with something that is not llama-server's JSON: %w", c.name, path, err)
	}
	return nil
}

func (c *Client) headers(req *http.Request) {
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.cfg.Agent)
	req.Header.Set("X-Wattline-Echo", "1")
	if c.cfg.RunID != "" {
		req.Header.Set("X-Wattline-Labels", "replay="+c.cfg.RunID)
	}
	switch {
	case c.cfg.APIKey != "":
		req.Header.Set("Authorization", "Bearer "+c.cfg.APIKey)
	case c.cfg.Password != "":
		req.SetBasicAuth("wattline", c.cfg.Password)
	}
}

// refused makes a network error a sentence that says what to do.
func (c *Client) refused(err error) error {
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("no server answers at %s: there is no such file (%w)", c.name, os.ErrNotExist)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no server answers at %s: start one, or name another with --endpoint (%w)", c.name, syscall.ECONNREFUSED)
	case errors.As(err, &dns):
		return fmt.Errorf("the host of %s is not known: correct --endpoint (%w)", c.name, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		strings.Contains(err.Error(), "server closed idle connection"): // net/http's name for the same, which it does not export
		return fmt.Errorf("%s closed the connection without an answer: it is no llama-server, or it has just ended (%w)", c.name, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s does not answer: is it a llama-server, and not overloaded? (%w)", c.name, err)
	}
	return err
}

// message is the text of llama-server's error object or of wattline's admin API, or the start of whatever was sent.
func message(body []byte) string {
	var server struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	var admin struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &server) == nil && server.Error.Message != "" {
		return server.Error.Message
	}
	if json.Unmarshal(body, &admin) == nil && admin.Error != "" {
		return admin.Error
	}
	const limit = 200
	text := strings.Join(strings.Fields(string(body)), " ")
	return text[:min(len(text), limit)]
}
