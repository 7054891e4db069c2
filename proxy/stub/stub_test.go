package stub

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"
)

// inMemory serves a stub inside the caller's bubble and returns how to dial it.
func inMemory(t *testing.T, cfg Config) (*Server, *http.Client) {
	t.Helper()
	ln := fasthttputil.NewInmemoryListener()
	srv := New(cfg)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return ln.Dial() },
	}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := errors.Join(srv.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return srv, client
}

// post sends a request with an id and returns the open reply.
func post(t *testing.T, client *http.Client, path, id, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://stub"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Request-Id", id)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// events reads the payloads of a stream's data lines, with the time of each.
func events(t *testing.T, body io.Reader) (data []string, at []time.Time) {
	t.Helper()
	sc := bufio.NewScanner(body)
	for sc.Scan() {
		if text, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
			data, at = append(data, text), append(at, time.Now())
		}
	}
	if err := sc.Err(); err != nil {
		t.Errorf("read the stream: %v", err)
	}
	return data, at
}

func TestLatencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, client := inMemory(t, Config{Record: true})
		began := time.Now()
		resp := post(t, client, "/v1/chat/completions", "a", `{"messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":4}`)
		if d := time.Since(began); d != 5*time.Millisecond {
			t.Errorf("head after %v", d)
		}
		data, at := events(t, resp.Body)
		// Role, four tokens, the last event, [DONE].
		if len(data) != 7 || data[6] != "[DONE]" {
			t.Fatalf("events: %q", data)
		}
		for i, want := range []time.Duration{700, 700, 720, 740, 760, 760, 760} {
			if d := at[i].Sub(began); d != want*time.Millisecond {
				t.Errorf("event %d after %v, want %v ms", i, d, int(want))
			}
		}
		var last struct {
			Timings struct {
				PromptMs    float64 `json:"prompt_ms"`
				PredictedMs float64 `json:"predicted_ms"`
				PredictedN  int     `json:"predicted_n"`
			} `json:"timings"`
		}
		if err := json.Unmarshal([]byte(data[5]), &last); err != nil {
			t.Fatal(err)
		}
		if last.Timings.PromptMs != 695 || last.Timings.PredictedMs != 60 || last.Timings.PredictedN != 4 {
			t.Errorf("timings: %+v", last.Timings)
		}
		ex, err := srv.Await(t.Context(), "a", func(e Exchange) bool { return !e.Ended.IsZero() })
		if err != nil {
			t.Fatal(err)
		}
		if ex.First.Sub(ex.Arrived) != 700*time.Millisecond || ex.Headed.Sub(ex.Arrived) != 5*time.Millisecond || !ex.Complete || ex.Output != 4 {
			t.Errorf("recorded: %+v", ex)
		}
		// Head, six pings, four tokens (the role event rides on the first), last event, [DONE], 0, CRLF.
		if ex.Writes != 1+6+4+1+1+2 {
			t.Errorf("%d writes", ex.Writes)
		}
	})
}

func TestSlotQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, client := inMemory(t, Config{Slots: 1, TokenGap: 10 * time.Millisecond, Record: true})
		const ask = `{"prompt":"x","stream":true,"n_predict":11}`
		done := make(chan struct{})
		first := post(t, client, "/completion", "a", ask)
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, first.Body)
		}()
		began := time.Now()
		second := post(t, client, "/completion", "b", ask)
		// The first has its slot from 5 to 700 + 10 x 10 ms; the second's head comes then.
		if d := time.Since(began); d != 795*time.Millisecond {
			t.Errorf("queued head after %v", d)
		}
		data, at := events(t, second.Body)
		<-done
		if d := at[0].Sub(began); d != (795+695)*time.Millisecond {
			t.Errorf("queued first token after %v", d)
		}
		if !strings.Contains(data[len(data)-1], `"prompt_ms":695,`) {
			t.Errorf("last event: %s", data[len(data)-1])
		}
		if n := len(srv.Exchanges()); n != 2 {
			t.Errorf("%d exchanges", n)
		}
	})
}

func TestSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := inMemory(t, Config{TokenJitter: 15 * time.Millisecond, Seed: 7})
		read := func(body string) (string, time.Duration) {
			began := time.Now()
			var text strings.Builder
			data, _ := events(t, post(t, client, "/v1/completions", "", body).Body)
			for _, d := range data[:len(data)-1] {
				var e struct{ Choices []struct{ Text string } }
				if err := json.Unmarshal([]byte(d), &e); err != nil {
					t.Fatal(err)
				}
				text.WriteString(e.Choices[0].Text)
			}
			return text.String(), time.Since(began)
		}
		const a, b = `{"prompt":"a","stream":true,"max_tokens":30}`, `{"prompt":"b","stream":true,"max_tokens":30}`
		text, took := read(a)
		again, tookAgain := read(a)
		other, _ := read(b)
		if text != again || took != tookAgain {
			t.Errorf("the same request differs: %q in %v, %q in %v", text, took, again, tookAgain)
		}
		if text == other {
			t.Error("another request has the same text")
		}
		if even := 700*time.Millisecond + 29*20*time.Millisecond; took == even {
			t.Errorf("no jitter: %v", took)
		}
	})
}

func TestReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := inMemory(t, Config{})
		for _, route := range []string{"GET /health", "GET /v1/models", "GET /props", "GET /slots", "GET /nothing"} {
			_, path, _ := strings.Cut(route, " ")
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://stub"+path, nil)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if !json.Valid(body) {
				t.Errorf("%s: %s", route, body)
			}
		}
		bodies := map[string]string{
			"/tokenize":            `{"content":"hello you"}`,
			"/apply-template":      `{"messages":[{"role":"user","content":"hi"}]}`,
			"/completion":          `{"prompt":"hi","n_predict":3}`,
			"/v1/completions":      `{"prompt":"hi","max_tokens":3}`,
			"/v1/chat/completions": `{"messages":[{"role":"user","content":"hi"}],"max_tokens":3}`,
		}
		for path, ask := range bodies {
			body, _ := io.ReadAll(post(t, client, path, "", ask).Body)
			if !json.Valid(body) {
				t.Errorf("%s: %s", path, body)
			}
			if strings.HasSuffix(path, "completions") && !bytes.Contains(body, []byte(`"completion_tokens":3`)) {
				t.Errorf("%s: no usage in %s", path, body)
			}
		}
		for _, path := range []string{"/completion", "/v1/completions", "/v1/chat/completions"} {
			ask := strings.Replace(bodies[path], "{", `{"stream":true,"stream_options":{"include_usage":true},`, 1)
			data, _ := events(t, post(t, client, path, "", ask).Body)
			for _, d := range data {
				if d != "[DONE]" && !json.Valid([]byte(d)) {
					t.Errorf("%s: %s", path, d)
				}
			}
		}
	})
}

func TestFaults(t *testing.T) {
	const ask = `{"prompt":"x","stream":true,"max_tokens":9}`
	cases := []struct {
		fault  string
		events int // data lines that arrive; -1: not even a head
		broken bool
	}{
		{"close", -1, true}, {"reset", -1, true}, {"die:3", 3, true}, {"die:0", 0, true}, {"half-chunk:2", 2, true},
		{"error:3", 4, false}, {"until-end", 11, false}, {"status:503", 0, false},
	}
	for _, c := range cases {
		t.Run(c.fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fault, err := ParseFault(c.fault)
				if err != nil {
					t.Fatal(err)
				}
				_, client := inMemory(t, Config{Fault: fault})
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://stub/v1/completions", strings.NewReader(ask))
				resp, err := client.Do(req)
				if c.events < 0 {
					if err == nil {
						_ = resp.Body.Close()
						t.Fatal("a reply came")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if (err != nil) != c.broken {
					t.Errorf("broken: %v, error %v", c.broken, err)
				}
				// half-chunk leaves the beginning of one more.
				if n := bytes.Count(body, []byte("data: ")); n != c.events && (fault.Kind != HalfChunk || n != c.events+1) {
					t.Errorf("%d events in %q", n, body)
				}
			})
		})
	}
	if _, err := ParseFault("explode"); err == nil {
		t.Error("an unknown fault is accepted")
	}
}

func TestDeparture(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := New(Config{Record: true, Slots: 1, FirstToken: 10 * time.Millisecond})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"prompt":"x","stream":true,"n_predict":100000}`
	fmt.Fprintf(nc, "POST /completion HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if _, err := srv.Await(t.Context(), "gone", func(e Exchange) bool { return e.Output > 0 }); err != nil {
		t.Fatal(err)
	}
	left := time.Now()
	_ = nc.Close()
	ex, err := srv.Await(t.Context(), "gone", func(e Exchange) bool { return !e.PeerClosed.IsZero() && !e.Ended.IsZero() })
	if err != nil {
		t.Fatal(err)
	}
	if d := ex.PeerClosed.Sub(left); d < 0 || d > 10*time.Second {
		t.Errorf("the close was seen %v after it", d)
	}
	if busy, _ := srv.slots.state(); busy[0] || ex.Complete {
		t.Errorf("slot busy %v, complete %v", busy[0], ex.Complete)
	}
	if err := errors.Join(srv.Close(), <-served); err != nil {
		t.Error(err)
	}
	if srv.Conns() != 0 {
		t.Errorf("%d connections are left", srv.Conns())
	}
}
