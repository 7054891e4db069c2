package console

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Probe asks the admin listener of another process for /healthz or /readyz. Error sentences are for an operator.
type Probe struct {
	// Admin is the listener's --admin: HOST:PORT, where every interface (0.0.0.0) means this machine, unix:///PATH, or a URL.
	Admin   string
	Path    string // /healthz or /readyz
	TLS     bool   // the listener speaks TLS; its certificate is not verified, since it names other hosts than this one
	Timeout time.Duration
}

// Run returns nil if the answer's status is 200.
func (p Probe) Run(ctx context.Context) error {
	base, dial := p.target()
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: dial,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // nothing secret is sent
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+p.Path, nil)
	if err != nil {
		return fmt.Errorf("--admin %q is no address: write it as HOST:PORT (%w)", p.Admin, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		} else if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer in %v", p.Timeout)
		}
		return fmt.Errorf("no wattline answers at %s (--admin): %w", p.Admin, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || resp.StatusCode == http.StatusOK {
		return err
	}
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error == "" {
		return fmt.Errorf("%s%s answers %s: is it wattline's admin listener?", base, p.Path, resp.Status)
	}
	return fmt.Errorf("%s: %s", resp.Status, answer.Error)
}

// target is the URL to ask, and how to connect to it.
func (p Probe) target() (base string, dial func(context.Context, string, string) (net.Conn, error)) {
	var d net.Dialer
	if path, ok := strings.CutPrefix(p.Admin, "unix://"); ok {
		return "http://localhost", func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) }
	}
	return AdminURL(p.Admin, p.TLS), d.DialContext
}

// AdminURL makes a URL of an --admin of serve, under which this machine reaches it; a URL stays as it is.
func AdminURL(admin string, useTLS bool) string {
	if strings.Contains(admin, "://") {
		return strings.TrimSuffix(admin, "/")
	}
	scheme := "http://"
	if useTLS {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(admin)
	if err != nil {
		return scheme + admin
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return scheme + net.JoinHostPort(host, port)
}
