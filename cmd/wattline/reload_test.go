package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pausedUpstream sends one token of each stream, and the rest when next is closed.
func pausedUpstream(t *testing.T) (url string, next chan struct{}) {
	t.Helper()
	next = make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}))
	t.Cleanup(srv.Close)
	return srv.URL, next
}

// settings writes a certificate with this serial number and a configuration file that uses it.
func settings(t *testing.T, dir string, serial int64, price float64, level string) (config string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(dir, "config.yaml")
	for name, text := range map[string][]byte{
		"cert.pem":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"key.pem":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"config.yaml": fmt.Appendf(nil, "tls-cert: %s/cert.pem\ntls-key: %s/key.pem\nprice-per-kwh: %g\nlog-level: %s\n", dir, dir, price, level),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config
}

// serial returns the serial number of the certificate that a new connection gets.
func (w *wattlineProcess) serial(t *testing.T) int64 {
	t.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// TestOldTLSClients: a client of HTTP/1.0, which names only that, is served over TLS, and so is one that names nothing.
func TestOldTLSClients(t *testing.T) {
	t.Parallel()
	upstream, next := pausedUpstream(t)
	close(next)
	w := serve(t, upstream, "--config", settings(t, t.TempDir(), 1, 0.25, "info"), "--gpu", "none")
	for _, protocols := range [][]string{{"http/1.0"}, nil, {"http/1.1"}, {"h2", "http/1.0"}, {"h2", "http/1.1"}} {
		c, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		if err != nil {
			t.Errorf("%q: %v", protocols, err)
			continue
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		got, err := io.ReadAll(c)
		if at := len(protocols) - 1; at >= 0 && c.ConnectionState().NegotiatedProtocol != protocols[at] || !strings.Contains(string(got), " 200 ") || err != nil {
			t.Errorf("%q: chose %q, %q, %v", protocols, c.ConnectionState().NegotiatedProtocol, got, err)
		}
		_ = c.Close()
	}
}

// hangup sends SIGHUP and waits for its effect.
func (w *wattlineProcess) hangup(t *testing.T, effect string, seen func() bool) {
	t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !seen(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("SIGHUP has no effect: %s", effect)
		}
	}
}

// SIGHUP changes the certificate, the price and the log level while a stream is in flight. Wrong settings change
// nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	upstream, next := pausedUpstream(t)
	dir := t.TempDir()
	w := serve(t, upstream, "--config", settings(t, dir, 1, 0.25, "info"), "--gpu", "none")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	send := func() (*http.Response, *bufio.Reader) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/chat/completions", strings.NewReader(`{"stream":true,"messages":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Wattline-Echo", "1")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := bufio.NewReader(resp.Body)
		if line, err := body.ReadString('\n'); err != nil || !strings.Contains(line, `"a"`) {
			t.Fatalf("the stream begins with %q, %v", line, err)
		}
		return resp, body
	}
	before, beforeBody := send()
	defer before.Body.Close()
	if n := w.serial(t); n != 1 {
		t.Fatalf("the certificate is number %d", n)
	}

	settings(t, dir, 2, 0.5, "warn")
	w.hangup(t, "the new certificate is not used", func() bool { return w.serial(t) == 2 })
	after, afterBody := send()
	defer after.Body.Close()

	settings(t, dir, 3, 0.75, "info")
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.hangup(t, "wrong settings are not logged", func() bool { return strings.Contains(w.said(), "settings not reloaded") })
	if n := w.serial(t); n != 2 {
		t.Errorf("settings that are wrong changed the certificate to number %d", n)
	}

	close(next)
	for id, body := range map[string]*bufio.Reader{before.Header.Get("X-Wattline-Id"): beforeBody, after.Header.Get("X-Wattline-Id"): afterBody} {
		rest, err := io.ReadAll(body)
		if err != nil || !strings.HasSuffix(string(rest), "[DONE]\n\n") {
			t.Errorf("stream %s is cut: %q, %v", id, rest, err)
		}
	}
	w.stop(t)
	if strings.Contains(w.said(), "reloaded certificates") {
		t.Error("a line at level info was written at level warn")
	}
	for id, rec := range w.stored(t, 10) {
		if rec.PricePerKWhMicro.V != 500_000 { // both ended after the successful reload
			t.Errorf("request %s is priced %d", id, rec.PricePerKWhMicro.V)
		}
	}
}

// TestAdminOverTLS: with a certificate and a password the admin API is served over TLS to who has both, and to `wattline
// health`. SIGHUP changes the password; a file without one changes nothing.
func TestAdminOverTLS(t *testing.T) {
	t.Parallel()
	upstream, next := pausedUpstream(t)
	close(next)
	dir := t.TempDir()
	config, password := settings(t, dir, 1, 0.25, "info"), filepath.Join(dir, "password")
	change := func(to string) {
		if err := os.WriteFile(password, []byte(to+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change("correct horse")
	w := serve(t, upstream, "--config", config, "--gpu", "none", "--admin-password-file", password)
	if !strings.HasPrefix(w.admin, "https://") {
		t.Fatalf("the admin API is served at %s", w.admin)
	}
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(filepath.Join(dir, "cert.pem")); err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	ask := func(path, password string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("anybody", password)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, c := range []struct {
		path, password string
		want           int
	}{{"/healthz", "", 200}, {"/api/requests", "", 401}, {"/api/requests", "wrong horse", 401}, {"/api/requests", "correct horse", 200}} {
		if got := ask(c.path, c.password); got != c.want {
			t.Errorf("%s with %q: %d, want %d", c.path, c.password, got, c.want)
		}
	}
	if resp, err := http.Get("http" + strings.TrimPrefix(w.admin, "https") + "/api/requests"); err == nil {
		if resp.Body.Close(); resp.StatusCode == 200 {
			t.Error("the rows are served without TLS")
		}
	}
	address := strings.TrimPrefix(w.admin, "https://")
	out, _ := output(t, exitOK, "health", "--live", "--admin", address, "--tls-cert", filepath.Join(dir, "cert.pem"), "--admin-password-file", password)
	if out != "ok\n" {
		t.Errorf("health prints %q", out)
	}

	change("battery staple")
	w.hangup(t, "the new password is not asked for", func() bool { return ask("/api/requests", "battery staple") == 200 })
	if got := ask("/api/requests", "correct horse"); got != 401 {
		t.Errorf("the old password: %d", got)
	}
	change("short")
	w.hangup(t, "a password that is too short is not logged", func() bool { return strings.Contains(w.said(), "at least 8") })
	if got := ask("/api/requests", "battery staple"); got != 200 {
		t.Errorf("after a wrong reload: %d", got)
	}
	w.stop(t)
}
