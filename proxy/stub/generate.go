package stub

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// generation is the answering of one completion request.
type generation struct {
	*reply
	dialect *dialect
	info    replyInfo
	counts  counts
	sched   *schedule
	fault   Fault
	want    int
	first   time.Time // when the first token is due
	text    []byte
}

// generate waits for a slot, sleeps as long as the prompt takes and writes the tokens.
func (x *reply) generate(d *dialect, a *params, fault Fault) {
	cfg := &x.srv.cfg
	prompt := a.prompt()
	g := &generation{reply: x, dialect: d, sched: newSchedule(cfg, x.req.body), fault: fault}
	g.counts.prompt = countTokens(prompt)
	if g.counts.prompt > cfg.Context {
		x.keep = false
		x.json(http.StatusBadRequest, map[string]any{"error": map[string]any{
			"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": g.counts.prompt, "n_ctx": cfg.Context,
			"message": fmt.Sprintf("request (%d tokens) exceeds the available context size (%d tokens), try increasing it", g.counts.prompt, cfg.Context),
		}})
		return
	}
	cachedPrompt := prompt
	if a.CachePrompt != nil && !*a.CachePrompt {
		cachedPrompt = ""
	}
	slot, cached, ok := x.srv.slots.acquire(cachedPrompt, x.gone)
	if !ok {
		return
	}
	defer x.srv.slots.release(slot)
	if cached { // one token is always evaluated
		g.counts.cached = max(g.counts.prompt-1, 0)
	}
	g.counts.slot = slot
	x.sleepUntil(x.req.arrived.Add(cfg.HeaderDelay), nil)
	started := time.Now()
	g.first = started.Add(cfg.FirstToken - cfg.HeaderDelay)
	limited := false
	if g.want, limited = a.tokens(cfg.Tokens); limited {
		g.counts.finish = "length"
	} else {
		g.counts.finish = "stop"
	}
	g.info = replyInfo{id: g.sched.id(), created: x.req.arrived.Unix(), usage: a.StreamOptions.IncludeUsage, prompt: g.counts.prompt}
	g.info.tail = fmt.Sprintf(`"created":%d,"id":"chatcmpl-%s","model":"%s","system_fingerprint":"stub","object":"chat.completion.chunk"`,
		g.info.created, g.info.id, Model)
	if a.Stream {
		g.stream(started)
	} else {
		g.whole(started)
	}
}

// whole writes an unstreamed reply when its last token is due, also for a peer that has left.
func (g *generation) whole(started time.Time) {
	g.sleepUntil(g.first, nil)
	first := time.Now()
	due, last := g.first, first
	var text []byte
	for n := range g.want {
		if n > 0 {
			due = due.Add(g.sched.next())
			g.sleepUntil(due, nil)
			last = time.Now()
		}
		text = g.sched.word(text)
	}
	g.finished(started, first, last)
	body := g.dialect.whole(&g.info, &g.counts, text)
	if g.fault.Kind == UntilEnd {
		g.keep = false
		g.head(200, "Content-Type: application/json; charset=utf-8\r\n", body)
	} else {
		g.head(200, jsonHead(len(body)), body)
	}
	at := time.Now()
	g.srv.note(func() {
		g.ex.Headed, g.ex.First, g.ex.Output = at, first, g.want
	})
	g.complete = true
}

func (g *generation) finished(started, first, last time.Time) {
	g.counts.output = g.want
	g.counts.promptMs = float64(first.Sub(started).Microseconds()) / 1000
	g.counts.predictedMs = float64(last.Sub(first).Microseconds()) / 1000
}

// stream writes head, pings, tokens and the end.
func (g *generation) stream(started time.Time) {
	g.streamHead()
	if !g.prefill() {
		return
	}
	var first, last time.Time
	due := g.first
	for n := range g.want {
		if n > 0 {
			due = due.Add(g.sched.next())
			if !g.sleepUntil(due, g.gone) {
				return
			}
		}
		if g.applyFault(n) {
			return
		}
		g.text = g.sched.word(g.text[:0])
		last = g.event(func(dst []byte) []byte {
			return g.dialect.token(dst, &g.info, g.text, n+1)
		})
		if n == 0 {
			first = last
		}
		g.noteToken(n, last)
	}
	if g.want == 0 {
		first, last = time.Now(), time.Now()
	}
	if g.applyFault(g.want) {
		return
	}
	g.finished(started, first, last)
	g.event(func(dst []byte) []byte { return g.dialect.final(dst, &g.info, &g.counts) })
	if g.dialect.done {
		g.event(func(dst []byte) []byte { return append(dst, "data: [DONE]\n\n"...) })
	}
	g.lastChunk()
}

// streamHead writes the head when the slot has started.
func (g *generation) streamHead() {
	g.bare = g.fault.Kind == UntilEnd || !g.req.ProtoAtLeast(1, 1)
	coding := "Transfer-Encoding: chunked\r\n"
	if g.bare {
		coding, g.keep = "", false
	}
	g.head(200, "X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\n"+coding, nil)
	now := time.Now()
	g.srv.note(func() { g.ex.Headed = now })
}

// prefill writes comment lines until the first token is due. A peer that leaves does not shorten it; then it
// returns false.
func (g *generation) prefill() bool {
	if every := g.srv.cfg.PingInterval; every > 0 {
		for at := time.Now().Add(every); at.Before(g.first) && g.sleepUntil(at, g.gone); at = at.Add(every) {
			g.event(func(dst []byte) []byte { return append(dst, ":\n\n"...) })
		}
	}
	g.sleepUntil(g.first, nil)
	select {
	case <-g.gone:
		return false
	default:
		return true
	}
}

// applyFault fails as the fault says after n token events, and reports whether that ends the reply.
func (g *generation) applyFault(n int) bool {
	if n != g.fault.N {
		return false
	}
	switch g.fault.Kind {
	case Die:
		g.shut()
	case DieReset:
		g.reset()
	case HalfChunk:
		g.write([]byte("100\r\ndata: {\"choices\":[{\"fin"))
		g.shut()
	case Stall:
		<-g.gone
	case Error:
		g.event(func(dst []byte) []byte {
			return append(dst, "data: {\"error\":{\"code\":500,\"message\":\"the stub was asked to fail\",\"type\":\"server_error\"}}\n\n"...)
		})
		g.lastChunk()
	default:
		return false
	}
	return true
}

// lastChunk writes the last chunk and its CRLF in two writes, as llama-server does.
func (g *generation) lastChunk() {
	if !g.bare {
		g.write([]byte("0\r\n"))
		g.write([]byte("\r\n"))
		g.keep = false // build 11669 closes after a chunked reply, although its head promises keep-alive
	}
	g.complete = true
}

// event writes the bytes that build appends as one chunk, in one write.
func (g *generation) event(build func(dst []byte) []byte) time.Time {
	const room = 10 // for the size line
	if cap(g.chunk) < room {
		g.chunk = make([]byte, room, 1024)
	}
	g.chunk = build(g.chunk[:room])
	if g.bare {
		return g.write(g.chunk[room:])
	}
	var size [room]byte
	line := append(strconv.AppendInt(size[:0], int64(len(g.chunk)-room), 16), '\r', '\n')
	start := room - len(line)
	copy(g.chunk[start:], line)
	g.chunk = append(g.chunk, '\r', '\n')
	return g.write(g.chunk[start:])
}

func (g *generation) noteToken(n int, at time.Time) {
	if !g.srv.cfg.Record {
		return
	}
	g.srv.mu.Lock()
	defer g.srv.mu.Unlock()
	if n == 0 {
		g.ex.First = at
	}
	g.ex.Output = n + 1
	g.srv.announce()
}
