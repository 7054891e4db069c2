package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"wattline/meter"
	"wattline/replay"
)

// capture is one reply as it came: its bytes, and after each read how many there were and when.
type capture struct {
	body  []byte
	marks []mark
}

type mark struct {
	end int           // body[:end] had arrived
	at  time.Duration // after the request's start
}

const (
	chatPath = "/v1/chat/completions"
	rawPath  = "/completion"
	readSize = 32 << 10
	// maxReply bounds what is kept of one reply; a token's event is some 250 bytes.
	maxReply = 256 << 20
)

// chatRequest is the body of one measured request.
type chatRequest struct {
	Messages      json.RawMessage `json:"messages"`
	Stream        bool            `json:"stream"`
	StreamOptions map[string]bool `json:"stream_options"`
	MaxTokens     int             `json:"max_tokens"`
	IgnoreEOS     bool            `json:"ignore_eos"`
	CachePrompt   bool            `json:"cache_prompt"`
	Temperature   float64         `json:"temperature"`
	Seed          uint32          `json:"seed"`
}

// Send sends one request and returns what happened; it never fails, an error is in the Exchange. A 503
// while the model is loading is tried again, as another request with a start of its own.
func (c *Client) Send(ctx context.Context, r *replay.Request) *replay.Exchange {
	deadline := time.Now().Add(c.cfg.LoadTimeout)
	for tries := 0; ; tries++ {
		ex := c.once(ctx, r)
		ex.Retries = tries
		if ex.Status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return ex
		}
		if sleep(ctx, loadPoll) != nil {
			return ex
		}
	}
}

// body is a request's path and its body.
func body(r *replay.Request) (path string, body []byte, err error) {
	if r.Raw != nil {
		return rawPath, rawBody(r), nil
	}
	messages := r.Messages
	if messages == nil {
		messages = userMessage(r.Prompt)
	}
	body, err = json.Marshal(chatRequest{
		Messages: messages, Stream: true, StreamOptions: map[string]bool{"include_usage": true},
		MaxTokens: r.Cell.OutputTokens, IgnoreEOS: r.Forced, CachePrompt: r.Cache != replay.Cold, Seed: r.Seed,
	})
	return chatPath, body, err
}

// Prepare makes the body of a request without a template before it is due: for a long prompt that takes milliseconds.
func (*Client) Prepare(r *replay.Request) {
	if r.Raw != nil {
		r.Body = rawBody(r)
	}
}

// rawBody is the body of a request without a template.
func rawBody(r *replay.Request) []byte {
	text, _ := json.Marshal(r.Raw.Text) // a string
	out := make([]byte, 0, len(text)+8*len(r.Raw.Tokens)+200)
	out = append(out, `{"prompt":`...)
	if len(r.Raw.Tokens) > 0 {
		out = append(out, '[')
	}
	out = append(out, text...)
	for _, id := range r.Raw.Tokens {
		out = strconv.AppendInt(append(out, ','), int64(id), 10)
	}
	if len(r.Raw.Tokens) > 0 {
		out = append(out, ']')
	}
	return fmt.Appendf(out, `,"n_predict":%d,"ignore_eos":%t,"stream":%t,"cache_prompt":%t,"return_tokens":%t,"temperature":0,"seed":%d}`,
		r.Cell.OutputTokens, r.Forced, !r.Unstreamed, r.Cache != replay.Cold, r.KeepReply, r.Seed)
}

func (c *Client) once(ctx context.Context, r *replay.Request) *replay.Exchange {
	ex := &replay.Exchange{Key: r.Key, Warmup: r.Warmup, Cell: r.Cell, ScheduledAt: r.ScheduledAt, ShiftUs: r.ShiftUs}
	path, text := rawPath, r.Body
	if text == nil {
		var err error
		if path, text, err = body(r); err != nil {
			ex.Error = err.Error()
			return ex
		}
	}
	ctx, leaving := departing(ctx, r.CancelAfter)
	defer leaving.stop()
	var start time.Time
	trace := &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { ex.ConnectedUs = since(start) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { ex.SentUs = since(start) },
		GotFirstResponseByte: func() { ex.HeadUs = since(start) },
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost, c.base+path, bytes.NewReader(text))
	if err != nil {
		ex.Error = err.Error()
		return ex
	}
	c.headers(req)
	req.Header.Set("X-Request-Id", c.requestID(r))
	// llama-server (build 11669) closes the connection behind every streamed reply although its head
	// promises to keep it, some time after the last chunk; wattline keeps its own.
	req.Close = !c.inLine.Load()
	got := c.bufs.Get().(*capture) // only ever *capture
	defer func() {
		got.body, got.marks = got.body[:0], got.marks[:0]
		c.bufs.Put(got)
	}()

	start = time.Now()
	ex.StartedAt, ex.StartedMono = start.UTC(), start
	if !r.ScheduledAt.IsZero() {
		ex.LagUs = meter.Some(start.Sub(r.ScheduledAt).Microseconds())
	}
	leaving.begin()
	resp, err := c.http.Do(req)
	if err != nil {
		ex.EndUs = since(start)
		if ex.Cancelled = leaving.left(ctx); !ex.Cancelled {
			ex.Error = c.refused(err).Error()
		}
		return ex
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	ex.Status = resp.StatusCode
	ex.RowID, ex.Admin = resp.Header.Get("X-Wattline-Id"), resp.Header.Get("X-Wattline-Admin")
	err = got.read(resp.Body, start, func(n int) { c.events.Add(int64(n)) })
	ex.EndUs = since(start)
	if resp.StatusCode != http.StatusOK {
		ex.Error = (&statusError{path, resp.Status, message(got.body), resp.StatusCode}).Error()
		return ex
	}
	parseReply(got, ex, path, resp.Header, err == nil)
	switch {
	case err != nil && leaving.left(ctx):
		ex.Cancelled, ex.Error = true, ""
	case err != nil && ex.Error == "":
		ex.Error = broken(ctx, err)
	case r.KeepReply:
		ex.Reply = replyTokens(got.body, !r.Unstreamed)
	}
	return ex
}

// requestID names a request in the server's log and in wattline's rows.
func (c *Client) requestID(r *replay.Request) string {
	kind := "m"
	if r.Warmup {
		kind = "w"
	}
	return fmt.Sprintf("%s-%s-%d-%d-%d", c.cfg.RunID, kind, r.Trial, r.Key.Cell, r.Index)
}

func since(start time.Time) meter.Int { return meter.Some(time.Since(start).Microseconds()) }

func broken(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return "given up: " + ctx.Err().Error()
	}
	return fmt.Sprintf("the stream broke off: %v", err)
}

// read takes the reply in. count is told how many events each read began.
func (c *capture) read(r io.Reader, start time.Time, count func(int)) error {
	for {
		if cap(c.body)-len(c.body) < readSize {
			c.body = append(make([]byte, 0, 2*cap(c.body)+2*readSize), c.body...)
		}
		n, err := r.Read(c.body[len(c.body) : len(c.body)+readSize])
		at := time.Since(start)
		if n > 0 {
			from := len(c.body)
			c.body = c.body[:from+n]
			c.marks = append(c.marks, mark{len(c.body), at})
			count(bytes.Count(c.body[from:], []byte("data:")))
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case len(c.body) > maxReply:
			return fmt.Errorf("the reply has more than %d MiB", maxReply>>20)
		}
	}
}
