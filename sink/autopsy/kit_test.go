package autopsy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/deploy/llama"
	"wattline/meter"
	"wattline/meter/cache"
	"wattline/proxy"
	llamaapi "wattline/proxy/llama"
	"wattline/proxy/llamatest"
	"wattline/sink"
	"wattline/sink/autopsy"
)

// bench is a proxy with an autopsy before a real llama-server, which can be exchanged for another one as if it had been
// started anew.
type bench struct {
	t      testing.TB
	url    string
	rows   chan *meter.Record
	facts  cache.Facts
	mu     sync.Mutex // guards server and starts
	server *llama.Server
	starts int64
	kept   []*sink.Prompt
}

// observer passes the proxy's events to the autopsy, as routeObserver does.
type observer struct {
	route *autopsy.Route
	done  func(*meter.Record) bool
}

func (o observer) Observe(e proxy.Event) { o.route.Observe(e) }
func (o observer) Done(seq uint64, at int64, rec *meter.Record) {
	rec.EnergyQuality = meter.EnergyUnavailable
	o.route.Done(seq, at, rec)
	o.done(rec)
}

// collector is where the rows of prompts end.
type collector struct{ rows chan *meter.Record }

func (c collector) Offer(rec *meter.Record) bool {
	if rec.Method == http.MethodPost {
		c.rows <- rec
	}
	return true
}
func (c collector) Settle(rec *meter.Record) bool { c.rows <- rec; return true }
func (collector) OfferPower(*sink.Power) bool     { return true }
func (collector) OfferLedger(*sink.Ledger) bool   { return true }

func startServer(t testing.TB, args ...string) *llama.Server {
	t.Helper()
	template, err := filepath.Abs(filepath.Join("testdata", "agent.jinja"))
	if err != nil {
		t.Fatal(err)
	}
	return llamatest.Start(t, append([]string{"-c", "32768", "--jinja", "--chat-template-file", template}, args...)...)
}

func newBench(t testing.TB, facts cache.Facts, args ...string) *bench {
	t.Helper()
	b := &bench{t: t, rows: make(chan *meter.Record, 64), facts: facts, server: startServer(t, args...)}
	up, err := proxy.ParseUpstream(b.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	a := autopsy.New(autopsy.Config{Secret: []byte("of the tests"), Memory: 64 << 20, Keep: true, Offer: func(p *sink.Prompt) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.kept = append(b.kept, p)
		return true
	}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.url = "http://" + ln.Addr().String()
	own, err := proxy.ParseUpstream(b.url) // leads to the server of the moment
	if err != nil {
		t.Fatal(err)
	}
	route := a.Route(llamaapi.NewClient(own), func() (cache.Facts, int64) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.facts, b.starts
	})
	srv, err := proxy.New(proxy.Config{
		Name: "default", Upstream: up, Bodies: route.Bodies(), Identify: &meter.Identify{Key: bytes.Repeat([]byte("k"), 32)},
		Observer: observer{route, a.Rows(collector{b.rows}).Offer},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			b.mu.Lock()
			to := strings.TrimPrefix(b.server.URL(), "http://")
			b.mu.Unlock()
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }() // ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		a.Stop(ctx)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return b
}

// answer is a reply with its row.
type answer struct {
	text string
	row  *meter.Record
}

// post sends a body and waits for its row. The client's connections are not kept: a test may exchange the server.
func (b *bench) post(path, session string, body any) answer {
	b.t.Helper()
	text, ok := body.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(body); err != nil {
			b.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, bytes.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if session != "" {
		req.Header.Set("X-Wattline-Session", session)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("status %d: %s", resp.StatusCode, reply)
	}
	var out struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	_ = json.Unmarshal(reply, &out) // other paths have no choices
	a := answer{row: <-b.rows}
	if len(out.Choices) > 0 {
		a.text = out.Choices[0].Message.Content
	}
	return a
}

type object = map[string]any

// agent is an agent's session: it asks, is answered, and asks again with all that was said.
type agent struct {
	b        *bench
	name     string
	session  string // header; "": the agent sends none
	system   string
	tools    []object
	messages []object
	turn     int
	seed     int
	words    int // of a turn's text

	change func(a *agent, body object) // what it does to a body before it sends it
	last   *meter.Record
}

// syllables are words that the small model's vocabulary has, so that a text has a token for some bytes.
func syllables(seed, n int) string {
	var b strings.Builder
	for i := range n {
		v := seed*7919 + i*104729
		b.WriteByte("bcdfghjklmnprstvwz"[v%18])
		b.WriteByte("aeiou"[v/18%5])
		b.WriteByte("bcdfghjklmnprstvwz"[v/90%18])
		b.WriteByte("aeiou"[v/1620%5])
		b.WriteByte(' ')
	}
	return b.String()
}

func newAgent(b *bench, name string, words int) *agent {
	seed := 0
	for _, c := range name {
		seed = seed*31 + int(c)
	}
	seed &= 0xffff
	a := &agent{b: b, name: name, seed: seed, words: words, system: "agent " + name + "\n" + syllables(seed, 2*words)}
	for i := range 3 {
		a.tools = append(a.tools, object{"type": "function", "function": object{
			"name": fmt.Sprintf("tool%d", i), "description": name + " " + syllables(seed+i+1, words/2), "parameters": object{"type": "object", "properties": object{}},
		}})
	}
	return a
}

// body is the request of the present turn.
func (a *agent) body() object {
	messages := []object{{"role": "system", "content": a.system}}
	for _, m := range a.messages {
		c := object{}
		for k, v := range m {
			c[k] = v
		}
		messages = append(messages, c)
	}
	tools := make([]object, len(a.tools))
	copy(tools, a.tools)
	return object{"messages": messages, "tools": tools, "tool_choice": "none", "max_tokens": 8, "temperature": 0, "stream": false}
}

// step asks the next question and returns the row.
func (a *agent) step() *meter.Record {
	a.b.t.Helper()
	a.messages = append(a.messages, object{"role": "user", "content": fmt.Sprintf("turn %d ", a.turn) + syllables(a.turn*31+a.seed, a.words)})
	body := a.body()
	if a.change != nil {
		a.change(a, body)
	}
	got := a.b.post("/v1/chat/completions", a.session, body)
	a.last = got.row
	a.messages = append(a.messages, object{"role": "assistant", "content": got.text})
	a.turn++
	return got.row
}
