package llama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"wattline/proxy"
)

// Errors of Client's methods.
var (
	// ErrNotReady: nothing listens there, the server is still loading, or a gateway before it answers 5xx.
	ErrNotReady = errors.New("llama: the upstream is not ready")
	// ErrReplyTooLong: the reply was not read to its end.
	ErrReplyTooLong = fmt.Errorf("llama: the reply is longer than %d MiB and was not used", maxReply>>20)
)

// maxReply bounds a reply's body: /props holds the chat template, and a router's /v1/models all models.
const maxReply = 8 << 20

// Client reads one upstream's state. Each request has a connection of its own, which is closed after the
// reply: an idle one would occupy one of llama-server's few HTTP threads.
type Client struct {
	up   proxy.Upstream
	http *http.Client
}

// NewClient makes a Client; it connects to nothing yet.
func NewClient(up proxy.Upstream) *Client {
	return &Client{up: up, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return up.Dial(ctx) },
		},
	}}
}

// Upstream is the Client's upstream.
func (c *Client) Upstream() proxy.Upstream { return c.up }

// get requests a path and returns the reply's status and body. timeout bounds the whole request.
func (c *Client) get(ctx context.Context, timeout time.Duration, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// Also where the upstream speaks TLS: Upstream.Dial has shaken hands already.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.up.Host()+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("llama: %w", err)
	}
	req.Header.Set("User-Agent", "wattline")
	resp, err := c.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return 0, nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("llama: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return 0, nil, fmt.Errorf("llama: %s: %w", path, err)
	}
	if len(body) > maxReply {
		return 0, nil, fmt.Errorf("%w: GET %s", ErrReplyTooLong, path)
	}
	return resp.StatusCode, body, nil
}

// readyTimeout bounds Ready where the caller's context does not.
const readyTimeout = 5 * time.Second

// Ready returns nil if /health answers with a status below 500. Not every server has the route; llama-server
// answers 503 while it loads a model.
func (c *Client) Ready(ctx context.Context) error {
	status, _, err := c.get(ctx, readyTimeout, "/health")
	if err != nil {
		return fmt.Errorf("the upstream %s does not answer /health: %w", c.up, cause(err))
	}
	if status >= 500 {
		return fmt.Errorf("the upstream %s is not ready: /health answers %d %s", c.up, status, http.StatusText(status))
	}
	return nil
}

// cause is a network error without the address, which Ready's message has already.
func cause(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
