package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/deploy/llama"
	"wattline/meter"
	"wattline/proxy/stub"
)

// certificate makes one for 127.0.0.1, and the pool that trusts it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "wattline test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestTLSListener: conformance holds over TLS, and a client that leaves is noticed as fast.
func TestTLSListener(t *testing.T) {
	cert, pool := certificate(t)
	up, url := startStub(t, stub.Config{Slots: 100, FirstToken: 20 * time.Millisecond, TokenGap: 2 * time.Millisecond})
	f := serveFront(t, tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}), url)
	dialTLS := func() *tls.Conn {
		c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}).DialContext(t.Context(), "tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { _ = c.Close() })
		return c.(*tls.Conn)
	}
	c := dialTLS()
	br := bufio.NewReader(c)
	for i := range 3 { // on one connection
		id := fmt.Sprint("tls", i)
		send(t, c, postOf("/v1/chat/completions", id, chat(5, "")))
		if resp, body := readReply(t, br, http.MethodPost); resp.StatusCode != 200 || !strings.HasSuffix(body, "data: [DONE]\n\n") {
			t.Errorf("%s %q", resp.Status, body)
		}
		if rec := f.rows.row(t, id); rec.Outcome != meter.OK || rec.OutputTokens != meter.Some(5) {
			t.Errorf("row: %s, %+v", rec.Outcome, rec.OutputTokens)
		}
	}
	for _, leave := range []func(c *tls.Conn){
		func(c *tls.Conn) { _ = c.Close() },
		func(c *tls.Conn) { _ = c.NetConn().Close() },
		func(c *tls.Conn) { // a reset, with the socket full of unread bytes
			_ = c.NetConn().(*net.TCPConn).SetLinger(0)
			_ = c.NetConn().Close()
		},
	} {
		leavesPromptly(t, up, f, func() net.Conn { return dialTLS() }, func(c net.Conn) { leave(c.(*tls.Conn)) })
	}
	plain := dial(t, f.addr) // HTTP on a TLS port: closed, no harm
	send(t, plain, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _ = io.ReadAll(plain)
	c = dialTLS()
	send(t, c, postOf("/v1/chat/completions", "after", chat(1, "")))
	if resp, _ := readReply(t, bufio.NewReader(c), http.MethodPost); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	conformOverTLS(t, cert, pool)
}

// conformOverTLS sends a few of the conformance cases through TLS.
func conformOverTLS(t *testing.T, cert tls.Certificate, pool *x509.CertPool) {
	up := startScripted(t, listen(t))
	f := serveFront(t, tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}), up.url())
	for _, path := range []string{"/chunked", "/trailers", "/bulk", "/odd", "/hints", "/until-close", "/echo"} {
		raw := "GET " + path + " HTTP/1.1\r\nHost: llama\r\n\r\n"
		read := func(c net.Conn) string {
			send(t, c, raw)
			var got strings.Builder
			br := bufio.NewReader(io.TeeReader(c, &got))
			for status := 0; status < 200; {
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Fatal(err)
				}
				status = resp.StatusCode
			}
			_ = c.Close()
			return endToEnd(got.String())
		}
		c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}).DialContext(t.Context(), "tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		if direct, proxied := read(dial(t, up.ln.Addr().String())), read(c); direct != proxied {
			t.Errorf("%s: direct %s, through TLS %s", path, short(direct), short(proxied))
		}
	}
}

// TestHTTPSUpstream: verified by the system's roots or not at all; here the roots are the test's.
func TestHTTPSUpstream(t *testing.T) {
	cert, pool := certificate(t)
	ln := listen(t)
	up := stub.New(stub.Config{Record: true, Slots: 100, FirstToken: 20 * time.Millisecond, TokenGap: 2 * time.Millisecond})
	served := make(chan error, 1)
	go func() {
		served <- up.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
	}()
	t.Cleanup(func() {
		if err := errors.Join(up.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	url := "https://" + ln.Addr().String()

	f := startFront(t, url)
	c := dial(t, f.addr)
	send(t, c, postOf("/v1/chat/completions", "untrusted", chat(3, "")))
	if resp, body := readReply(t, bufio.NewReader(c), http.MethodPost); resp.StatusCode != 502 || !strings.Contains(body, "certificate") {
		t.Errorf("an unknown certificate: %s %s", resp.Status, body)
	}

	f = startFront(t, url, func(c *Config) { c.Upstream.tls.RootCAs = pool })
	c = dial(t, f.addr)
	br := bufio.NewReader(c)
	for i := range 3 {
		id := fmt.Sprint("https", i)
		send(t, c, postOf("/completion", id, `{"prompt":"x","n_predict":2}`))
		if resp, body := readReply(t, br, http.MethodPost); resp.StatusCode != 200 {
			t.Errorf("%s %s", resp.Status, body)
		}
	}
	leavesPromptly(t, up, f, func() net.Conn { return dial(t, f.addr) }, func(c net.Conn) { _ = c.Close() })
}

// TestUnixUpstream: a stub, and the real llama-server, behind a socket in the file system.
func TestUnixUpstream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "up.sock")
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	up := stub.New(stub.Config{Record: true, Slots: 100, FirstToken: 20 * time.Millisecond, TokenGap: 2 * time.Millisecond})
	served := make(chan error, 1)
	go func() { served <- up.Serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(up.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	f := startFront(t, "unix://"+path)
	c := dial(t, f.addr)
	br := bufio.NewReader(c)
	for i := range 3 {
		send(t, c, postOf("/completion", fmt.Sprint("unix", i), `{"prompt":"x","n_predict":2}`))
		if resp, body := readReply(t, br, http.MethodPost); resp.StatusCode != 200 {
			t.Errorf("%s %s", resp.Status, body)
		}
	}
	leavesPromptly(t, up, f, func() net.Conn { return dial(t, f.addr) }, func(c net.Conn) { _ = c.Close() })
	if rec := f.rows.row(t, "unix0"); rec.Upstream != "unix://"+path || rec.Outcome != meter.OK {
		t.Errorf("row: %s %s", rec.Upstream, rec.Outcome)
	}
}

// TestUnixListener: clients may come through a socket in the file system too, and are watched there.
func TestUnixListener(t *testing.T) {
	up, url := startStub(t, stub.Config{FirstToken: 20 * time.Millisecond, TokenGap: 2 * time.Millisecond})
	path := filepath.Join(t.TempDir(), "wattline.sock")
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := serveFront(t, ln, url)
	leavesPromptly(t, up, f, func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}, func(c net.Conn) { _ = c.Close() })
}

// leavesPromptly plays a client that leaves a stream: the upstream connection is closed soon, and the row
// says cancelled.
func leavesPromptly(t *testing.T, up *stub.Server, f *front, dial func() net.Conn, leave func(net.Conn)) {
	t.Helper()
	var closes paired
	for i := range 10 {
		id := fmt.Sprintf("left%d-%d", len(f.rows.list()), i)
		bare := startBareRelay(t)
		c := dial()
		send(t, c, postOf("/completion", id, `{"prompt":"x","stream":true,"n_predict":100000}`))
		untilMarker(t, c, "tokens_predicted")
		bareTook := bare.leave()
		left := time.Now()
		leave(c)
		ex := awaitStub(t, up, id, func(e stub.Exchange) bool { return !e.PeerClosed.IsZero() })
		if rec := f.rows.row(t, id); rec.Outcome != meter.Cancelled {
			t.Errorf("row: %s %q", rec.Outcome, rec.Error)
		}
		closes.add(ex.PeerClosed.Sub(left), bareTook())
	}
	closes.check(t, "from FIN to the upstream's close", leaveWithin)
}

// TestRealServerOnASocket: llama-server listens on a path that ends in .sock.
func TestRealServerOnASocket(t *testing.T) {
	bin, err := llama.Find(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	model, err := llama.TinyModel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "llama.sock")
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, bin.Path, "--host", path, "-m", model, "--no-webui", "-np", "2", "-c", "2048", "-t", "1", "-tb", "1")
	var log logged
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stop()
		_ = cmd.Wait() // killed
	}()
	f := startFront(t, "unix://"+path)
	eventually(t, func() bool {
		resp, err := http.Get(f.url() + "/health")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, func() string { return "llama-server is not ready:\n" + log.String() })
	c := dial(t, f.addr)
	send(t, c, postOf("/v1/chat/completions", "real", chat(8, "")))
	if resp, body := readReply(t, bufio.NewReader(c), http.MethodPost); resp.StatusCode != 200 || !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// TestParseUpstream: what is wrong is said in a sentence that says what to write.
func TestParseUpstream(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:8080": "no scheme", "localhost": "no scheme", "": "no scheme", "ftp://x": "scheme", "http://": "no host", "http://:80": "no host",
		"http://x/v1": "host and a port", "http://x?a=b": "host and a port", "http://u:p@x": "host and a port", "unix://x/y": "three slashes", "unix://": "three slashes",
		"http://x:99999999": "port", "http://[::1": "http://HOST:PORT",
	} {
		if _, err := ParseUpstream(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	for in, want := range map[string]string{
		"http://x": "x:80", "https://x": "x:443", "http://x:1/": "x:1", "unix:///a/b": "/a/b", "http://[::1]:5": "[::1]:5",
	} {
		if up, err := ParseUpstream(in); err != nil || up.addr != want {
			t.Errorf("%q: %q, %v", in, up.addr, err)
		}
	}
}
