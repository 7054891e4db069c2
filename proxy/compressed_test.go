package proxy

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"wattline/deploy/debian"
	"wattline/meter"
)

type compressor interface {
	io.WriteCloser
	Flush() error
}

// compressWith wraps w in the codings of a Content-Encoding, the last one outermost.
func compressWith(codings string, w io.Writer) compressor {
	names := strings.Split(codings, ", ")
	z := chain{}
	for _, name := range slices.Backward(names) {
		var c compressor
		switch strings.ToLower(name) {
		case "gzip", "x-gzip":
			c = gzip.NewWriter(w)
		case "deflate":
			c = zlib.NewWriter(w)
		case "bare":
			c, _ = flate.NewWriter(w, 6)
		case "br":
			c = brotli.NewWriterLevel(w, 5)
		case "zstd":
			c, _ = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(128<<10))
		default:
			panic(name)
		}
		z = append(chain{c}, z...)
		w = c
	}
	return z
}

// chain is compressors, the one that is written to first.
type chain []compressor

func (c chain) Write(p []byte) (int, error) { return c[0].Write(p) }

func (c chain) Flush() error {
	for _, z := range c {
		if err := z.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (c chain) Close() error {
	for _, z := range c {
		if err := z.Close(); err != nil {
			return err
		}
	}
	return nil
}

func compressed(codings string, body string) []byte {
	var b bytes.Buffer
	z := compressWith(codings, &b)
	_, _ = io.WriteString(z, body)
	_ = z.Close()
	return b.Bytes()
}

// upstreamOf serves one handler.
func upstreamOf(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

const (
	wholeRequest  = `{"model":"asked","messages":[{"role":"user","content":"hi"}],"max_tokens":7,"stream":true}`
	wholeReply    = `{"model":"served","choices":[{"index":0,"finish_reason":"stop","message":{"content":"x"}}],"usage":{"prompt_tokens":12,"completion_tokens":3}}`
	streamedReply = `data: {"model":"served","choices":[{"index":0,"delta":{"content":"a"}}]}` + "\n\n" +
		`data: {"model":"served","choices":[{"index":0,"delta":{"content":"b"}}]}` + "\n\n" +
		`data: {"model":"served","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3}}` + "\n\n" + "data: [DONE]\n\n"
)

// TestCompressedBodies: the row of a compressed exchange is that of the same exchange in plain bytes, and the bytes pass
// unchanged.
func TestCompressedBodies(t *testing.T) {
	url := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		codings := r.Header.Get("X-Codings")
		if want := compressedOr(r.Header.Get("X-Request-Codings"), wholeRequest); !bytes.Equal(got, want) {
			t.Errorf("%s: the upstream got %d bytes, want %d", codings, len(got), len(want))
		}
		body := wholeReply
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("X-Streams") == "1" {
			body = streamedReply
			w.Header().Set("Content-Type", "text/event-stream")
		}
		if codings == "" {
			_, _ = io.WriteString(w, body)
			return
		}
		for name := range strings.SplitSeq(strings.ReplaceAll(codings, "bare", "deflate"), ", ") { // one line each
			w.Header().Add("Content-Encoding", name)
		}
		z := compressWith(codings, w)
		for event := range strings.SplitAfterSeq(body, "\n\n") {
			_, _ = io.WriteString(z, event)
			_ = z.Flush()
			_ = http.NewResponseController(w).Flush()
		}
		_ = z.Close()
	})
	f := startFront(t, url)
	ask := func(id, request, reply string, streams bool) *meter.Record {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url()+"/v1/chat/completions", bytes.NewReader(compressedOr(request, wholeRequest)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"X-Request-Id": {id}, "X-Codings": {reply}, "X-Request-Codings": {request}, "Accept-Encoding": {"identity"}}
		if request != "" {
			req.Header.Set("Content-Encoding", strings.ReplaceAll(request, "bare", "deflate"))
		}
		body := wholeReply
		if streams {
			body = streamedReply
			req.Header.Set("X-Streams", "1")
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if want := compressedEvents(reply, body); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the client got %d bytes (%v), want %d", id, len(got), err, len(want))
		}
		return f.rows.row(t, id)
	}
	for _, streams := range []bool{false, true} {
		want := facts(ask(fmt.Sprintf("plain %v", streams), "", "", streams))
		if !strings.Contains(want, "served asked 12 3") {
			t.Fatalf("the plain row: %s", want)
		}
		for _, codings := range []string{"gzip", "X-GZip", "deflate", "bare", "BR", "zstd", "gzip, br", "zstd, gzip"} {
			if got := facts(ask(fmt.Sprintf("%s %v", codings, streams), codings, codings, streams)); got != want {
				t.Errorf("%s, streams %v: %s\nwant %s", codings, streams, got, want)
			}
		}
	}
}

const askedBody = `{"model":"asked","messages":[]}`

func compressedOr(codings, body string) []byte {
	if codings == "" {
		return []byte(body)
	}
	return compressed(codings, body)
}

// compressedEvents is what an upstream makes of a body that it flushes after each event.
func compressedEvents(codings, body string) []byte {
	if codings == "" {
		return []byte(body)
	}
	var b bytes.Buffer
	z := compressWith(codings, &b)
	for event := range strings.SplitAfterSeq(body, "\n\n") {
		_, _ = io.WriteString(z, event)
		_ = z.Flush()
	}
	_ = z.Close()
	return b.Bytes()
}

// facts are a row's columns that do not depend on time or on how its bytes were compressed.
func facts(r *meter.Record) string {
	d := meter.Details{}
	if r.Details != nil {
		d = *r.Details
	}
	return fmt.Sprint(r.Model, " ", d.RequestedModel, " ", r.PromptTokens.V, " ", r.OutputTokens.V, " stream ", r.Stream, " events ", r.OutputEvents, " first ", r.TTFTUs.Valid,
		" gaps ", r.ITLMaxUs.Valid, " finish ", r.FinishReason, " limit ", r.MaxTokens, " messages ", r.Messages, " ", r.TokenSource, " ", r.Outcome, " error ", r.Error, " unread ", d.Unread)
}

// TestCompressedFaults: what could not be inflated says so, no name is taken from compressed bytes, and the bytes pass.
func TestCompressedFaults(t *testing.T) {
	plain := `{"model":"never said","usage":{"prompt_tokens":99,"completion_tokens":99}}`
	stored := func(body string) []byte { // a gzip whose bytes show the text
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.NoCompression)
		_, _ = io.WriteString(z, body)
		_ = z.Close()
		return b.Bytes()
	}
	whole := compressed("gzip", wholeReply)
	for _, c := range []struct {
		name, header, kind string
		body               []byte
		want               string
	}{
		{"cut", "Content-Encoding: gzip", "application/json", whole[:len(whole)-20], "reply_cut"},
		{"damaged", "Content-Encoding: gzip", "application/json", append(bytes.Clone(whole[:len(whole)-8]), 1, 2, 3, 4, 5, 6, 7, 8), "reply_corrupt"},
		{"plain, said to be gzip", "Content-Encoding: gzip", "application/json", []byte(plain), "reply_corrupt"},
		{"stored, of an unknown name", "Content-Encoding: gzip2", "text/event-stream", stored("\n\ndata: " + plain + "\n\n"), "reply_encoding"},
		{"stored, in a second line", "Content-Encoding: identity\r\nContent-Encoding: zip", "text/event-stream", stored("\n\ndata: " + plain + "\n\n"), "reply_encoding"},
		{"stored, not said to be", "X-None: 1", "text/event-stream", stored("\n\ndata: " + plain + "\n\n"), "reply_encoding"},
		{"stored zstd, not said to be", "X-None: 1", "text/event-stream", append([]byte("\x28\xb5\x2f\xfd"), "\n\ndata: "+plain+"\n\n"...), "reply_encoding"},
		{"a document, not said to be", "X-None: 1", "application/json", stored(plain), "reply_encoding"},
	} {
		ln := listen(t)
		go func() {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			_ = untilMarker(t, nc, "}")
			_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s", c.kind, c.header, len(c.body), c.body)
			_, _ = io.Copy(io.Discard, nc)
		}()
		f := startFront(t, "http://"+ln.Addr().String())
		nc := dial(t, f.addr)
		send(t, nc, postOf("/v1/chat/completions", c.name, `{"model":"asked"}`))
		got := make([]byte, len(c.body))
		untilMarker(t, &oneByte{nc}, "\r\n\r\n")
		if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, c.body) {
			t.Errorf("%s: the client got other bytes (%v)", c.name, err)
		}
		rec := f.rows.row(t, c.name)
		if u := strings.Join(rec.Unread(), ","); u != c.want || rec.Model == "never said" || rec.PromptTokens == meter.Some(99) || !strings.HasPrefix(rec.Error, "not ") {
			t.Errorf("%s: unread %q, model %q, prompt %v, error %q; want %q", c.name, u, rec.Model, rec.PromptTokens, rec.Error, c.want)
		}
		_ = nc.Close()
		_ = ln.Close()
	}
}

// oneByte reads one byte at a time.
type oneByte struct{ io.Reader }

func (o *oneByte) Read(p []byte) (int, error) { return o.Reader.Read(p[:1]) }

// TestTransferCoding: a body that is compressed for the transfer is inflated too.
func TestTransferCoding(t *testing.T) {
	ln := listen(t)
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		_ = untilMarker(t, nc, "}")
		z := compressed("gzip", wholeReply)
		_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: gzip, chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(z), z)
		_, _ = io.Copy(io.Discard, nc)
	}()
	f := startFront(t, "http://"+ln.Addr().String())
	nc := dial(t, f.addr)
	send(t, nc, postOf("/v1/chat/completions", "te", `{"model":"asked"}`))
	untilMarker(t, nc, "0\r\n\r\n")
	if rec := f.rows.row(t, "te"); rec.Model != "served" || rec.OutputTokens != meter.Some(3) {
		t.Errorf("model %q, %v tokens, error %q", rec.Model, rec.OutputTokens, rec.Error)
	}
	_ = nc.Close()
}

// reportsSent keeps the work that an Observer was told of.
type reportsSent struct {
	*rows
	events chan Event
}

func (r reportsSent) Observe(e Event) { r.events <- e }

// TestCompressedWork: what a compressed request asks for reaches the Observer once, before the reply's head.
func TestCompressedWork(t *testing.T) {
	url := upstreamOf(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, streamedReply)
	})
	for _, codings := range []string{"gzip", "zstd"} {
		seen := reportsSent{newRows(), make(chan Event, 100)}
		f := startFront(t, url, func(c *Config) { c.Observer = seen })
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url()+"/v1/chat/completions", bytes.NewReader(compressed(codings, wholeRequest)))
		req.Header.Set("Content-Encoding", codings)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		seen.rows.awaitN(t, 1)
		close(seen.events)
		var steps []Step
		for e := range seen.events {
			steps = append(steps, e.Step)
			if e.Step == RequestSent && (!e.Work.Streams || !e.Work.Computes || e.Bytes == 0) {
				t.Errorf("%s: work %+v of %d bytes", codings, e.Work, e.Bytes)
			}
		}
		if want := []Step{RequestArrived, RequestSent, HeadersReceived}; len(steps) < 4 || !slices.Equal(steps[:3], want) || slices.Contains(steps[3:], RequestSent) {
			t.Errorf("%s: steps %v, want %v and outputs", codings, steps, want)
		}
	}
}

// nginxGzip is nginx in front of an upstream, as a gateway that compresses whatever it may.
const nginxGzip = `daemon off; pid DIR/pid; error_log stderr; worker_processes 1;
events {}
http { access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
gzip on; gzip_min_length 1; gzip_types application/json text/event-stream; gzip_proxied any; gzip_http_version 1.0;
server { listen unix:DIR/sock; location / { proxy_pass UPSTREAM; proxy_http_version 1.1; proxy_buffering off; } } }
`

// TestCompressedByNginx: behind an nginx that compresses what the real llama-server says, rows have what clients read:
// curl --compressed and Node's fetch, streamed and not.
func TestCompressedByNginx(t *testing.T) {
	nginx, curl := debian.Need(t, "nginx"), debian.Need(t, "curl")
	dir := t.TempDir()
	conf := strings.NewReplacer("DIR", dir, "UPSTREAM", real.Server(t).URL()).Replace(nginxGzip)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), nginx, "-c", filepath.Join(dir, "nginx.conf"), "-p", dir, "-e", "stderr")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	sock := filepath.Join(dir, "sock")
	eventually(t, func() bool { _, err := os.Stat(sock); return err == nil }, func() string { return "nginx does not listen: " + log.String() })
	f := startFront(t, "unix://"+sock)
	url := f.url() + "/v1/chat/completions"
	clients := map[string][]string{"curl": {curl, "-sN", "--compressed", "-H", "X-Request-Id: ID", "-H", "Content-Type: application/json", url, "-d", "BODY"}}
	if node, err := exec.LookPath("node"); err == nil {
		clients["node"] = []string{node, "-e", `fetch(process.argv[1], {method: "POST", headers: {"X-Request-Id": process.argv[2], "Content-Type": "application/json"}, body: process.argv[3]})
			.then(async r => { if (!r.headers.get("content-encoding")) throw new Error("not compressed"); process.stdout.write(await r.text()) })`, url, "ID", "BODY"}
	} else {
		debian.LeaveOut(t, fmt.Sprintf("this test needs Node.js: %v", err))
	}
	for name, args := range clients {
		for streams, end := range map[bool]string{true: "[DONE]", false: `"completion_tokens":20`} {
			id := fmt.Sprintf("%s %v", name, streams)
			body := fmt.Sprintf(`{"messages":[{"role":"user","content":"hi"}],"max_tokens":20,"ignore_eos":true,"stream":%v}`, streams)
			line := slices.Clone(args)
			for i := range line {
				line[i] = strings.Replace(strings.Replace(line[i], "ID", id, 1), "BODY", body, 1)
			}
			out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).Output()
			if err != nil || !bytes.Contains(out, []byte(end)) {
				t.Errorf("%s: %v, %s", id, err, short(string(out)))
			}
			rec := f.rows.row(t, id)
			if rec.OutputTokens != meter.Some(20) || !rec.PromptTokens.Valid || rec.Error != "" || rec.Unread() != nil || rec.Stream.V == 1 != streams {
				t.Errorf("%s: %v of %v tokens, stream %v, error %q, unread %v", id, rec.OutputTokens, rec.PromptTokens, rec.Stream, rec.Error, rec.Unread())
			}
			if streams && (rec.OutputEvents.V < 10 || !rec.TTFTUs.Valid || rec.UpstreamTTFTUs.V >= rec.DurationUs.V) {
				t.Errorf("%s: %v events, ttft %v of %v us", id, rec.OutputEvents, rec.UpstreamTTFTUs, rec.DurationUs)
			}
			if rec.ResponseBytes.V >= int64(len(out)) {
				t.Errorf("%s: %v bytes passed and the client read %d: they were not compressed", id, rec.ResponseBytes, len(out))
			}
		}
	}
}
