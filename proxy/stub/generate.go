package stub

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// generation is one completion under way.
type generation struct {
	*reply
	dialect *dialect
	about   about
	counts  counts
	sched   *schedule
	fault   Fault
	want    int
	first   time.Time // when the first token is due
	text    []byte
}

// generate answers a completion: it waits for a slot, "processes" the prompt and writes the tokens.
func (x *reply) generate(d *dialect, a *ask, fault Fault) {
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
	x.srv.note(func() {
		x.ex.Slotted, x.ex.Slot, x.ex.Prompt, x.ex.Cached = started, slot, g.counts.prompt, g.counts.cached
	})
	g.first = started.Add(cfg.FirstToken - cfg.HeaderDelay)
	limited := false
	if g.want, limited = a.tokens(cfg.Tokens); limited {
		g.counts.finish = "length"
	} else {
		g.counts.finish = "stop"
	}
	g.about = about{id: g.sched.id(), created: x.req.arrived.Unix(), usage: a.StreamOptions.IncludeUsage, prompt: g.counts.prompt}
	g.about.tail = fmt.Sprintf(`"created":%d,"id":"chatcmpl-%s","model":"%s","system_fingerprint":"stub","object":"chat.completion.chunk"`,
		g.about.created, g.about.id, Model)
	if a.Stream {
		g.stream(started)
	} else {
		g.whole(started)
	}
}

// whole writes an unstreamed reply once its last token is there. A peer that leaves does not end it.
func (g *generation) whole(started time.Time) {
	g.sleepUntil(g.first, nil)
	first := time.Now()
	due, last := g.first, first
	var reasoning, text []byte
	for n := range g.want {
		if n > 0 {
			due = due.Add(g.sched.next())
			g.sleepUntil(due, nil)
			last = time.Now()
		}
		if n < g.srv.cfg.Reasoning {
			reasoning = g.sched.word(reasoning)
		} else {
			text = g.sched.word(text)
		}
	}
	g.finished(started, first, last, g.want)
	body := g.dialect.whole(&g.about, &g.counts, reasoning, text)
	if g.fault.Kind == UntilEnd {
		g.keep = false
		g.head(200, "Content-Type: application/json; charset=utf-8\r\n", body)
	} else {
		g.head(200, jsonHead(len(body)), body)
	}
	at := time.Now()
	g.srv.note(func() {
		g.ex.Headed, g.ex.First, g.ex.Last, g.ex.Output = at, first, last, g.want
	})
	g.complete = true
}

func (g *generation) finished(started, first, last time.Time, n int) {
	g.counts.output = n
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
		if g.struck(n) {
			return
		}
		g.text = g.sched.word(g.text[:0])
		last = g.event(func(dst []byte) []byte {
			return g.dialect.token(dst, &g.about, g.text, n+1, n == 0, n < g.srv.cfg.Reasoning)
		})
		if n == 0 {
			first = last
		}
		g.noteToken(n, last)
	}
	if g.want == 0 {
		first, last = time.Now(), time.Now()
	}
	if g.struck(g.want) {
		return
	}
	g.finished(started, first, last, g.want)
	g.event(func(dst []byte) []byte { return g.dialect.final(dst, &g.about, &g.counts) })
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

// prefill pings until the first token is due. A peer that leaves meanwhile does not shorten it.
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

// struck does what the fault asks for behind n token events, and reports whether that ends the reply.
func (g *generation) struck(n int) bool {
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

// lastChunk writes the last chunk and its CRLF, each by itself.
func (g *generation) lastChunk() {
	if !g.bare {
		g.write([]byte("0\r\n"))
		g.write([]byte("\r\n"))
		g.keep = false // whatever its head said, build 11669 closes behind a chunked reply
	}
	g.complete = true
}

// event writes what build appends as one chunk, in one write.
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
	g.ex.Last, g.ex.Output = at, n+1
	g.srv.announce()
}
