package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/proxy/stub"
	"wattline/replay"
	"wattline/replay/prompt"
)

func startStub(t *testing.T, cfg stub.Config) (*stub.Server, *Client) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := stub.New(cfg)
	go srv.Serve(ln)
	t.Cleanup(func() { _ = srv.Close() })
	return srv, newClient(t, "http://"+ln.Addr().String())
}

func newClient(t *testing.T, endpoint string) *Client {
	t.Helper()
	c, err := New(Config{Endpoint: endpoint, APIKey: "k1", Agent: "wattline-replay/test", RunID: "r1", LoadTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func request(tokens int) *replay.Request {
	return &replay.Request{Cell: replay.Cell{Task: "coding", PromptTokens: 9, OutputTokens: tokens}, Prompt: "hello bafi", Cache: replay.Cold, Forced: true}
}

// On a real server, a prompt that was sized with its tokenizer is exactly as long as it says itself.
func TestTokenCounts(t *testing.T) {
	srv := llamatest.Start(t, "-c", "16384")
	c := newClient(t, srv.URL())
	s, err := c.Server(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.ContextTokens != 4096 || s.Slots != 4 || s.Build == "" || s.Model == "" || s.Params == 0 || s.ModelBytes == 0 {
		t.Errorf("%+v", s)
	}
	again, err := c.Server(t.Context(), nil)
	if err != nil || *again != *s {
		t.Errorf("the same server twice: %+v and %+v (%v)", s, again, err)
	}
	maker := &prompt.Maker{Counter: c}
	for _, n := range []int{40, 333, 1000} {
		text, err := maker.Make(t.Context(), "coding", n, uint64(n))
		if err != nil {
			t.Fatal(err)
		}
		for cache, reused := range map[replay.Cache]bool{replay.Cold: false, replay.Warm: true} {
			r := &replay.Request{Cell: replay.Cell{PromptTokens: n, OutputTokens: 8}, Prompt: text, Cache: cache, Forced: true}
			c.Send(t.Context(), r) // fills the slot's cache
			ex := c.Send(t.Context(), r)
			if !ex.OK() || ex.PromptTokens() != meter.Some(int64(n)) || ex.OutputTokens != meter.Some(8) || ex.FinishReason != "length" {
				t.Errorf("%d tokens, %s: %s; prompt %v, output %v, %s", n, cache, ex.Error, ex.PromptTokens(), ex.OutputTokens, ex.FinishReason)
			}
			if (ex.CacheN.V > 0) != reused {
				t.Errorf("%d tokens, %s: cache_n is %v", n, cache, ex.CacheN)
			}
			if ex.SentUs.V > ex.HeadUs.V || ex.HeadUs.V > ex.TTFTUs.V || ex.TTFTUs.V > ex.LastUs.V || ex.LastUs.V > ex.EndUs.V || !ex.ConnectedUs.Valid {
				t.Errorf("%d tokens, %s: times out of order: %+v", n, cache, ex)
			}
		}
	}
	if c.Admin() != "" {
		t.Errorf("a llama-server has no admin listener, and the client knows %q", c.Admin())
	}
	if n := c.Events(); n < 8*12 {
		t.Errorf("%d events in 12 replies of 8 tokens", n)
	}
}

func TestModelsAndHealth(t *testing.T) {
	_, c := startStub(t, stub.Config{})
	ids, err := c.Models(t.Context())
	if err != nil || len(ids) != 1 || ids[0] != stub.Model {
		t.Errorf("models %v (%v)", ids, err)
	}
	if err := c.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRequestHeaders(t *testing.T) {
	srv, c := startStub(t, stub.Config{FirstToken: -1, TokenGap: -1, Record: true})
	c.Send(t.Context(), request(2))
	h := srv.Exchanges()[0].Header
	for name, want := range map[string]string{
		"User-Agent": "wattline-replay/test", "X-Wattline-Echo": "1", "X-Wattline-Labels": "replay=r1", "Authorization": "Bearer k1",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
}

func TestFaults(t *testing.T) {
	for fault, says := range map[string]string{
		"close": "closed the connection", "reset": "closed the connection", "die:3": "broke off", "die-reset:3": "broke off", "half-chunk:2": "broke off",
		"error:2": "error in the stream", "status:500": "500",
	} {
		f, err := stub.ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		_, c := startStub(t, stub.Config{FirstToken: -1, TokenGap: -1, Fault: f})
		if ex := c.Send(t.Context(), request(8)); ex.OK() || !strings.Contains(ex.Error, says) {
			t.Errorf("%s: %q, want %q in it", fault, ex.Error, says)
		}
	}
	f := stub.Fault{Kind: stub.Hang}
	_, c := startStub(t, stub.Config{Fault: f})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if ex := c.Send(ctx, request(8)); ex.OK() {
		t.Errorf("a server that hangs: %+v", ex)
	}
}

func TestLoadingServer(t *testing.T) {
	var asked atomic.Int32
	up, _ := startStub(t, stub.Config{FirstToken: -1, TokenGap: -1, Record: true})
	_ = up
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`)
			return
		}
		if r.URL.Path == "/v1/chat/completions" {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, word+last+done)
			return
		}
		fmt.Fprint(w, `{"status":"ok","build_info":"b1","total_slots":1,"default_generation_settings":{"n_ctx":512}}`)
	}))
	defer srv.Close()
	c := newClient(t, srv.URL)
	c.cfg.LoadTimeout = time.Minute
	waited := 0
	if _, err := c.Server(t.Context(), func() { waited++ }); err != nil || waited != 1 {
		t.Errorf("%v; told %d times that it waits", err, waited)
	}
	asked.Store(0)
	if ex := c.Send(t.Context(), request(4)); !ex.OK() || ex.Retries != 2 {
		t.Errorf("%d retries, %s", ex.Retries, ex.Error)
	}
	c.cfg.LoadTimeout = time.Millisecond
	asked.Store(-1 << 20)
	if _, err := c.Server(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "still loading") {
		t.Errorf("a server that never loads: %v", err)
	}
}

// Every way in which an endpoint can be the wrong one is a sentence that says what to do.
func TestWrongEndpoints(t *testing.T) {
	serve := func(status int, body string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	closing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closing.Close()
	go func() { // ends with the listener
		for {
			conn, err := closing.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	for url, says := range map[string]string{
		"http://127.0.0.1:1":                     "no server answers",
		serve(401, `{"error":{"message":"no"}}`): "--api-key-file",
		serve(404, "nothing here"):               "not a llama-server",
		serve(200, `{"hello":"world"}`):          "not as llama-server does",
		serve(200, "<html>"):                     "not llama-server's JSON",
		serve(502, `{"error":{"message":"no"}}`): "the server behind it is not",
		serve(500, "oops"):                       "not as a llama-server should",
		"http://" + closing.Addr().String():      "closed the connection without an answer",
		"http://no..such.host:80":                "is not known", // no name at all, so no resolver is asked
		"unix:///no/such/socket":                 "no such file",
	} {
		_, err := newClient(t, url).Server(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q in it", url, err, says)
		}
	}
	for _, bad := range []string{"", "localhost:80", "ftp://x", "http://", "unix://", "unix://host/path"} {
		if _, err := New(Config{Endpoint: bad}); err == nil {
			t.Errorf("%q is taken for an address", bad)
		}
	}
}

// TestUnixSocket: an endpoint and an admin listener may be unix sockets, with TLS too.
func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "w") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the test's
	plain, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := stub.New(stub.Config{Slots: 3})
	go srv.Serve(plain) // ends with Close
	defer srv.Close()   //nolint:errcheck // the test's
	c := newClient(t, "unix://"+plain.Addr().String())
	if s, err := c.Server(t.Context(), nil); err != nil || s.Slots != 3 || s.Endpoint != c.Endpoint() {
		t.Errorf("%+v, %v", s, err)
	}
	if e := c.Send(t.Context(), request(4)); !e.OK() || e.OutputTokens.V != 4 {
		t.Errorf("%+v", e)
	}
	secret := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if secret.Listener, err = net.Listen("unix", filepath.Join(dir, "t")); err != nil {
		t.Fatal(err)
	}
	secret.StartTLS()
	defer secret.Close()
	own := secret.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	own.ServerName = "example.com" // of httptest's certificate
	for want, conf := range map[bool]*tls.Config{true: own, false: {}} {
		a, err := NewAdmin(Config{Endpoint: "unix://" + secret.Listener.Addr().String(), TLS: conf})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Reachable(t.Context()); (err == nil) != want {
			t.Errorf("its certificate known %v: %v", want, err)
		}
	}
}

// The admin listener of another machine's loopback is not ours.
func TestAdminOfAnotherHost(t *testing.T) {
	for _, c := range []struct{ endpoint, told, want string }{
		{"http://127.0.0.1:11433", "http://127.0.0.1:11435", "http://127.0.0.1:11435"},
		{"http://localhost:11433", "http://127.0.0.1:11435", "http://127.0.0.1:11435"},
		{"http://192.0.2.7:11433", "http://127.0.0.1:11435", ""},
		{"http://192.0.2.7:11433", "http://192.0.2.7:11435", "http://192.0.2.7:11435"},
		{"http://127.0.0.1:11433", "", ""},
		{"http://127.0.0.1:11433", "unix:///run/admin", "unix:///run/admin"},
		{"unix:///run/wattline", "http://127.0.0.1:11435", "http://127.0.0.1:11435"},
		{"http://192.0.2.7:11433", "unix:///run/admin", ""},
		{"http://127.0.0.1:11433", "ftp://127.0.0.1/", ""},
	} {
		cl := newClient(t, c.endpoint)
		h := http.Header{}
		if c.told != "" {
			h.Set("X-Wattline-Admin", c.told)
		}
		cl.learn(h)
		if got := cl.Admin(); got != c.want {
			t.Errorf("%s told %q: %q, want %q", c.endpoint, c.told, got, c.want)
		}
	}
}
