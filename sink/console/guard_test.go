package console_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/sink/console"
)

func guarded(t *testing.T, g console.Guard) string {
	return serve(t, console.Config{
		Rows: &shelf{}, Flush: func(context.Context) error { return nil }, Inflight: func() []any { return []any{} },
		Ready: func(context.Context) error { return nil }, Guard: g, Log: slog.New(slog.DiscardHandler),
	})
}

func TestWhoMayAsk(t *testing.T) {
	const password = "correct horse"
	hosts := []string{"gpu1.example.com", "*.monitoring.svc"}
	for _, c := range []struct {
		name, path, host, password, site, mode, dest string
		method                                       string
		status                                       int
	}{
		{"no password", "/api/inflight", "", "", "", "", "", "GET", 401},
		{"a wrong one", "/api/inflight", "", "correct horse ", "", "", "", "GET", 401},
		{"the beginning of it", "/api/inflight", "", "correct", "", "", "", "GET", 401},
		{"the right one", "/api/inflight", "", password, "", "", "", "GET", 200},
		{"unknown paths ask too", "/nothing", "", "", "", "", "", "GET", 401},
		{"profiles ask too", "/debug/pprof/heap", "", "", "", "", "", "GET", 401},
		{"a probe", "/healthz", "", "", "", "", "", "GET", 200},
		{"another", "/readyz", "", "", "", "", "", "HEAD", 200},
		{"Prometheus; metrics are off", "/metrics", "", "", "", "", "", "GET", 404},
		{"a path that only looks open", "/healthz/", "", "", "", "", "", "GET", 401},
		{"writing", "/api/inflight", "", password, "", "", "", "POST", 405},
		{"a named host", "/metrics", "gpu1.example.com:11435", "", "", "", "", "GET", 404},
		{"in other letters", "/metrics", "GPU1.Example.com.", "", "", "", "", "GET", 404},
		{"below a named host", "/readyz", "wattline.monitoring.svc", "", "", "", "", "GET", 200},
		{"the name itself is not below", "/readyz", "monitoring.svc", "", "", "", "", "GET", 403},
		{"another host", "/readyz", "evil.example", "", "", "", "", "GET", 403},
		{"one that ends alike", "/readyz", "evilgpu1.example.com", "", "", "", "", "GET", 403},
		{"an address", "/readyz", "[::1]:11435", "", "", "", "", "GET", 200},
		{"a page of another site loads", "/api/inflight", "", password, "cross-site", "cors", "empty", "GET", 403},
		{"frames", "/api/inflight", "", password, "cross-site", "navigate", "iframe", "GET", 403},
		{"links", "/api/inflight", "", password, "cross-site", "navigate", "document", "GET", 200},
		{"its own page loads", "/api/inflight", "", password, "same-origin", "cors", "empty", "GET", 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, guarded(t, console.Guard{Hosts: hosts, Password: password})+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if req.Close = true; c.host != "" {
			req.Host = c.host
		}
		if c.password != "" {
			req.SetBasicAuth("anybody", c.password)
		}
		for k, v := range map[string]string{"Sec-Fetch-Site": c.site, "Sec-Fetch-Mode": c.mode, "Sec-Fetch-Dest": c.dest} {
			if v != "" {
				req.Header.Set(k, v)
			}
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status || (resp.Header.Get("WWW-Authenticate") != "") != (c.status == 401) || resp.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %s, headers %v; want %d", c.name, resp.Status, resp.Header, c.status)
		}
	}
}

// A person who opens an address that is refused reads one sentence; a program gets an object.
func TestRefusalIsASentence(t *testing.T) {
	for accept, want := range map[string]string{"": `{"error":"a password is needed`, "application/json": `{"error":`, "text/html,application/xhtml+xml": "a password is needed (--admin-password-file), with any user name\n"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", guarded(t, console.Guard{Password: "correct horse"})+"/live", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if plain := resp.Header.Get("Content-Type") == "text/plain; charset=utf-8"; err != nil || resp.StatusCode != 401 || !strings.HasPrefix(string(body), want) || plain != strings.Contains(accept, "html") {
			t.Errorf("Accept %q: %s %q, %v", accept, resp.Status, body, resp.Header)
		}
	}
}

func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{"correct horse\n": "correct horse", "correct horse\r\nmore\n": "correct horse", " spaces  \n": " spaces  ", "": "8", "short\n": "8", "\nsecond line\n": "8"} {
		file := filepath.Join(dir, "admin-password")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("CREDENTIALS_DIRECTORY", dir)
		for _, from := range []string{file, ""} {
			got, err := console.ReadPassword(from)
			if want == "8" && (err == nil || !strings.Contains(err.Error(), "at least 8") || strings.Contains(err.Error(), "short")) || want != "8" && (got != want || err != nil) {
				t.Errorf("%q from %q: %q, %v", text, from, got, err)
			}
		}
	}
	if _, err := console.ReadPassword(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Error(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	if got, err := console.ReadPassword(""); got != "" || err != nil {
		t.Errorf("no credential of that name: %q, %v", got, err)
	}
}

func TestHostsAreNames(t *testing.T) {
	for host, ok := range map[string]bool{"gpu1.example.com": true, "*.svc": true, "*": false, "*.": false, "http://x.y": false, "x.y:11435": false, "": false, "a.*.b": false} {
		if err := (console.Guard{Hosts: []string{host}}).Check(); (err == nil) != ok {
			t.Errorf("%q: %v", host, err)
		}
	}
	for addr, want := range map[net.Addr]bool{
		&net.TCPAddr{IP: net.IPv4zero}: true, &net.TCPAddr{}: true, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}: true, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}: false,
		&net.TCPAddr{IP: net.IPv6loopback}: false, &net.TCPAddr{IP: net.ParseIP("::ffff:127.0.0.1")}: false, &net.UnixAddr{Name: "/x"}: false,
	} {
		if console.Reachable(addr) != want {
			t.Errorf("%v is reachable: %v", addr, !want)
		}
	}
}

// TestProbe: what `wattline health` prints.
func TestProbe(t *testing.T) {
	up := guarded(t, console.Guard{Password: "correct horse"})
	down := serve(t, console.Config{Ready: func(context.Context) error { return errors.New("the upstream http://x is not ready") }, Log: slog.New(slog.DiscardHandler)})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(up, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with ln
		_ = http.Serve(ln, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) //nolint:gosec // a test's
	}()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, c := range []struct{ admin, path, want string }{
		{up, "/readyz", ""}, {strings.TrimPrefix(up, "http://"), "/healthz", ""}, {"0.0.0.0:" + port, "/readyz", ""}, {":" + port, "/readyz", ""},
		{"unix://" + socket, "/readyz", ""},
		{down, "/readyz", "503 Service Unavailable: the upstream http://x is not ready"}, {down, "/healthz", ""},
		{up, "/api/status", "401 Unauthorized: a password is needed"},
		{"127.0.0.1:1", "/readyz", "no wattline answers at 127.0.0.1:1 (--admin): connect: connection refused"},
		{"unix://" + socket + "x", "/readyz", "no such file"},
		{silent.Addr().String(), "/readyz", "no answer in"},
		{"127.0.0.1:x y", "/readyz", "is no address"},
	} {
		p := console.Probe{Admin: c.admin, Path: c.path, Timeout: 2 * time.Minute}
		if c.want == "no answer in" {
			p.Timeout = 20 * time.Millisecond
		}
		if err := p.Run(t.Context()); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s%s: %v, want %q", c.admin, c.path, err, c.want)
		}
	}
	if got := console.AdminURL("[::]:1", true); got != "https://[::1]:1" {
		t.Error(got)
	}
}

// TestProbePassword: the password goes to a server with a valid certificate, or with the one that serve was given, and to no
// other.
func TestProbePassword(t *testing.T) {
	var got string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, got, _ = r.BasicAuth() }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	write := func(der []byte) string {
		path := filepath.Join(t.TempDir(), "cert.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own, other := write(srv.Certificate().Raw), write(append(bytes.Clone(srv.Certificate().Raw), 0))
	admin := strings.TrimPrefix(srv.URL, "https://")
	for _, c := range []struct{ cert, password, want, sent string }{
		{"", "", "", ""}, {own, "correct horse", "", "correct horse"},
		{other, "correct horse", "so the password is not sent", ""},
		{"", "correct horse", "certificate", ""},
		{own + "x", "correct horse", "no such file", ""},
	} {
		got = ""
		err := console.Probe{Admin: admin, Path: "/x", TLS: true, CertFile: c.cert, Password: c.password, Timeout: 2 * time.Minute}.Run(t.Context())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) || got != c.sent {
			t.Errorf("%+v: %v, sent %q", c, err, got)
		}
	}
	if err := (console.Probe{Admin: guarded(t, console.Guard{Password: "correct horse"}), Path: "/api/status", Password: "battery staple", Timeout: 2 * time.Minute}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "refuses the password") {
		t.Error(err)
	}
}
