package console

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Probe asks the admin listener of another process. Error sentences are for an operator.
type Probe struct {
	// Admin is the listener's --admin: HOST:PORT, where every interface (0.0.0.0) means this machine, unix:///PATH, or a URL.
	Admin string
	Path  string // such as /healthz
	TLS   bool   // the listener speaks TLS
	// Password is the listener's, "" where it asks for none. It is sent over TLS only to a server whose certificate is valid,
	// or is that of CertFile: serve's names other hosts than this one.
	Password string
	CertFile string
	Timeout  time.Duration // until the answer begins
}

// Run returns nil if the answer's status is 200.
func (p Probe) Run(ctx context.Context) error {
	resp, err := p.Open(ctx)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Open asks, and returns an answer whose status is 200; its body may be a stream.
func (p Probe) Open(ctx context.Context) (*http.Response, error) {
	base, dial := p.target()
	security, err := p.security()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(p.Timeout, func() { cancel(fmt.Errorf("no answer in %v", p.Timeout)) })
	defer late.Stop()
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DialContext: dial, TLSClientConfig: security},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+p.Path, nil)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("--admin %q is no address: write it as HOST:PORT (%w)", p.Admin, err)
	}
	if p.Password != "" {
		req.SetBasicAuth("wattline", p.Password)
	}
	resp, err := client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		} else if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		cancel(nil)
		return nil, fmt.Errorf("no wattline answers at %s (--admin): %w", p.Admin, err)
	}
	resp.Body = &endedBody{resp.Body, cancel}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error string `json:"error"`
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized && p.Password != "":
		return nil, fmt.Errorf("%s refuses the password: it must be the one of serve's --admin-password-file", p.Admin)
	case json.Unmarshal(body, &answer) != nil || answer.Error == "":
		return nil, fmt.Errorf("%s%s answers %s: is it wattline's admin listener?", base, p.Path, resp.Status)
	}
	return nil, fmt.Errorf("%s: %s", resp.Status, answer.Error)
}

// endedBody ends its request when it is closed.
type endedBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *endedBody) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// security says which certificates are accepted.
func (p Probe) security() (*tls.Config, error) {
	switch {
	case p.Password == "":
		return &tls.Config{InsecureSkipVerify: true}, nil //nolint:gosec // nothing secret is sent
	case p.CertFile == "":
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	text, err := os.ReadFile(p.CertFile)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("--tls-cert %s has no certificate (PEM)", p.CertFile)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, //nolint:gosec // VerifyConnection wants this one certificate
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, block.Bytes) {
				return fmt.Errorf("its certificate is not that of --tls-cert %s, so the password is not sent", p.CertFile)
			}
			return nil
		},
	}, nil
}

// target is the URL to ask, and how to connect to it.
func (p Probe) target() (base string, dial func(context.Context, string, string) (net.Conn, error)) {
	var d net.Dialer
	if path, ok := strings.CutPrefix(p.Admin, "unix://"); ok {
		scheme := "http"
		if p.TLS {
			scheme = "https"
		}
		return scheme + "://localhost", func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) }
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
