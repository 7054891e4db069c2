package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"wattline/meter"
)

// tap stands between wattline and the server and records both directions.
type tap struct {
	ln net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex // guards what follows
	up, down bytes.Buffer
	conns    []net.Conn
}

func startTap(t testing.TB, server string) *tap {
	t.Helper()
	p := &tap{ln: listen(t)}
	p.wg.Go(func() {
		for {
			c, err := p.ln.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", server)
			if err != nil {
				_ = c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, s)
			p.mu.Unlock()
			p.wg.Go(func() { p.pass(s, c, &p.up) })
			p.wg.Go(func() { p.pass(c, s, &p.down) })
		}
	})
	t.Cleanup(func() {
		_ = p.ln.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *tap) pass(dst, src net.Conn, rec *bytes.Buffer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		rec.Write(buf[:n])
		p.mu.Unlock()
		if n > 0 {
			_, _ = dst.Write(buf[:n])
		}
		if err != nil {
			_ = dst.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// taken returns what has passed since the last call.
func (p *tap) taken() (up, down string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	up, down = p.up.String(), p.down.String()
	p.up.Reset()
	p.down.Reset()
	return up, down
}

// TestRequestBytes: between wattline and a real llama-server stands a tap. What the client
// the bytes sent are those received, and the other way round, apart from hop-by-hop lines.
func TestRequestBytes(t *testing.T) {
	srv := real.Server(t)
	p := startTap(t, strings.TrimPrefix(srv.URL(), "http://"))
	f := startFront(t, "http://"+p.ln.Addr().String())
	get := func(path string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: llama\r\nAccept: */*\r\nx-MiXed: Case\r\n\r\n"
	}
	const messages = `"messages":[{"role":"user","content":"write\nsome code"}]`
	requests := []struct{ name, raw string }{
		{"chat, streamed", postOf("/v1/chat/completions", "s1", `{`+messages+`,"stream":true,"max_tokens":40}`)},
		{"chat with usage", postOf("/v1/chat/completions", "s2", `{`+messages+`,"stream":true,"max_tokens":20,"stream_options":{"include_usage":true}}`)},
		{"two choices", postOf("/v1/chat/completions", "s3", `{`+messages+`,"stream":true,"max_tokens":20,"n":2}`)},
		{"chat, whole", postOf("/v1/chat/completions", "s4", `{`+messages+`,"max_tokens":40}`)},
		{"completions", postOf("/v1/completions", "s5", `{"prompt":"write","stream":true,"max_tokens":40}`)},
		{"completion", postOf("/completion", "s6", `{"prompt":"write","stream":true,"n_predict":40}`)},
		{"completion, whole", postOf("/completion", "s7", `{"prompt":"write","n_predict":40}`)},
		{"messages", postOf("/v1/messages", "s8", `{`+messages+`,"stream":true,"max_tokens":20}`)},
		{"responses", postOf("/v1/responses", "s9", `{"input":"write","stream":true,"max_output_tokens":20}`)},
		{"progress", postOf("/completion", "s10", `{"prompt":"`+strings.Repeat("some code ", 200)+`","stream":true,"n_predict":4,"return_progress":true,"timings_per_token":true}`)},
		{"tokenize", postOf("/tokenize", "s11", `{"content":"`+strings.Repeat("words ", 20000)+`"}`)},
		{"apply-template", postOf("/apply-template", "s12", `{`+messages+`}`)},
		{"broken JSON", postOf("/v1/chat/completions", "s13", `{"messages":[}`)},
		{"too long", postOf("/completion", "s14", `{"prompt":"`+strings.Repeat("write some code ", 9000)+`"}`)},
		{"models", get("/v1/models")},
		{"props", get("/props")},
		{"slots", get("/slots")},
		{"metrics", get("/metrics")},
		{"not found", get("/nothing")},
		{"options", "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: llama\r\nOrigin: http://page\r\nAccess-Control-Request-Method: POST\r\n\r\n"},
		{"head", "HEAD /health HTTP/1.1\r\nHost: llama\r\n\r\n"},
		{"put", strings.Replace(postOf("/v1/models", "s16", `{}`), "POST", "PUT", 1)},
		{"patch", strings.Replace(postOf("/v1/models", "s17", `{}`), "POST", "PATCH", 1)},
		{"delete", "DELETE /v1/models HTTP/1.1\r\nHost: llama\r\n\r\n"},
		{"trace", "TRACE /health HTTP/1.1\r\nHost: llama\r\n\r\n"},
		{"connect", "CONNECT llama:80 HTTP/1.1\r\nHost: llama:80\r\n\r\n"},
		{"unknown method", "BREW /pot HTTP/1.1\r\nHost: llama\r\n\r\n"},
		{"range", "GET /v1/models HTTP/1.1\r\nHost: llama\r\nRange: bytes=0-9\r\n\r\n"},
		{"HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n"},
		{"chunked upload", "POST /completion HTTP/1.1\r\nHost: llama\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"prompt\":\"hey\",\r\nf\r\n\"n_predict\":  5\r\n1\r\n}\r\n0\r\n\r\n"},
		{"100-continue", strings.Replace(postOf("/completion", "s15", `{"prompt":"write","n_predict":4}`), "\r\n", "\r\nExpect: 100-continue\r\n", 1)},
	}
	statuses := map[string]int{"broken JSON": 400, "too long": 400, "not found": 404, "head": 200, "chat, streamed": 200, "progress": 200}
	for _, r := range requests {
		t.Run(r.name, func(t *testing.T) {
			nc := dial(t, f.addr)
			send(t, nc, r.raw)
			var got bytes.Buffer
			br := bufio.NewReader(io.TeeReader(nc, &got))
			method, _, _ := strings.Cut(r.raw, " ")
			for status := 100; status < 200; {
				resp, err := http.ReadResponse(br, &http.Request{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Fatal(err)
				}
				status = resp.StatusCode
			}
			if want, ok := statuses[r.name]; ok && !strings.HasPrefix(got.String(), fmt.Sprintf("HTTP/1.1 %d ", want)) {
				t.Errorf("it is no test of what it says: %s", short(got.String()))
			}
			up, down := p.taken()
			if want := endToEnd(r.raw); up != want {
				t.Errorf("the server received\n%s\nand the client had sent\n%s", short(up), short(want))
			}
			if down == "" || endToEnd(down) != endToEnd(got.String()) {
				t.Errorf("the client received\n%s\nand the server had sent\n%s", short(endToEnd(got.String())), short(endToEnd(down)))
			}
			_ = nc.Close()
		})
	}
}

// TestTokenCounts: the counts in the row are those that the server says itself, streamed or not.
func TestTokenCounts(t *testing.T) {
	srv := real.Server(t)
	f := startFront(t, srv.URL())
	for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/completion"} {
		for _, stream := range []bool{true, false} {
			for _, cached := range []bool{false, true} {
				id := fmt.Sprintf("%s-%v-%v", strings.ReplaceAll(path, "/", "-"), stream, cached)
				t.Run(id, func(t *testing.T) {
					nc := dial(t, f.addr)
					body := fmt.Sprintf(`{"prompt":"write some code","messages":[{"role":"user","content":"write some code"}],"stream":%v,"max_tokens":23,"n_predict":23,"cache_prompt":%v}`, stream, cached)
					send(t, nc, postOf(path, id, body))
					_, reply := readReply(t, bufio.NewReader(nc), http.MethodPost)
					_ = nc.Close()
					at := strings.LastIndex(reply, `"timings":`)
					if at < 0 {
						t.Fatalf("the server told no timings: %s", reply)
					}
					var timings struct {
						CacheN     int64 `json:"cache_n"`
						PromptN    int64 `json:"prompt_n"`
						PredictedN int64 `json:"predicted_n"`
					}
					if err := json.NewDecoder(strings.NewReader(reply[at+len(`"timings":`):])).Decode(&timings); err != nil {
						t.Fatal(err)
					}
					rec := f.rows.row(t, id)
					if rec.OutputTokens != meter.Some(timings.PredictedN) || rec.PromptTokens != meter.Some(timings.PromptN+timings.CacheN) || rec.CachedTokens != meter.Some(timings.CacheN) {
						t.Errorf("row: %+v out, %+v prompt, %+v cached; the server says %+v", rec.OutputTokens, rec.PromptTokens, rec.CachedTokens, timings)
					}
					if !cached && timings.CacheN != 0 {
						t.Errorf("cache_n is %d without cache_prompt", timings.CacheN)
					}
				})
			}
		}
	}
}
