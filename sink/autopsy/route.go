package autopsy

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"wattline/meter"
	"wattline/meter/cache"
	"wattline/meter/prompt"
	"wattline/proxy"
	"wattline/proxy/llama"
	"wattline/sink"
)

// Server tells what is known of a route's upstream now: its facts, and how often it was seen to begin anew.
type Server func() (cache.Facts, int64)

// Route judges the requests of one route. A nil Route judges none.
type Route struct {
	a      *Autopsy
	client *llama.Client // nil: slots are never asked for
	server Server        // nil: nothing is known

	mu     sync.Mutex // guards what follows
	bodies map[uint64]*body
	downs  int64 // times that the upstream was seen to be away
	down   bool  // the last request did not reach it
	asking bool  // slots are being read
	asked  int64 // when they were read last, ns; 0: never
}

// Route returns the judge of a route's requests.
func (a *Autopsy) Route(client *llama.Client, server Server) *Route {
	if a == nil {
		return nil
	}
	return &Route{a: a, client: client, server: server, bodies: map[uint64]*body{}}
}

// Bodies returns proxy.Config.Bodies for the route; nil where nothing is judged.
func (r *Route) Bodies() func(seq uint64, length int64) io.Writer {
	if r == nil {
		return nil
	}
	return func(seq uint64, length int64) io.Writer {
		return &lazyBody{r: r, seq: seq, length: length}
	}
}

// lazyBody becomes a body with its first byte: most requests of some clients have none.
type lazyBody struct {
	r      *Route
	seq    uint64
	length int64
	b      *body
}

// Write implements io.Writer.
func (l *lazyBody) Write(p []byte) (int, error) {
	if l.b == nil {
		l.b = &body{a: l.r.a, length: l.length}
		l.r.mu.Lock()
		l.r.bodies[l.seq] = l.b
		l.r.mu.Unlock()
	}
	return l.b.Write(p)
}

// Observe is called with each step of an exchange, on the data path.
func (r *Route) Observe(e proxy.Event) {
	if r == nil || e.Step != proxy.RequestSent {
		return
	}
	r.mu.Lock()
	b := r.bodies[e.Seq]
	r.mu.Unlock()
	if b == nil {
		return
	}
	b.mu.Lock()
	b.sent = e.At
	b.mu.Unlock()
	go func() { // ends by itself, soon: the server works meanwhile
		b.parse()
		r.a.mu.Lock()
		defer r.a.mu.Unlock()
		r.a.shrink()
	}()
}

// Done fills the columns cache_* of a finished request's row, but for the joules.
func (r *Route) Done(seq uint64, at int64, rec *meter.Record) {
	if r == nil {
		return
	}
	r.mu.Lock()
	b := r.bodies[seq]
	delete(r.bodies, seq)
	r.reached(rec)
	generation := r.downs
	r.mu.Unlock()
	defer func() { // the row goes on
		if v := recover(); v != nil {
			r.a.cfg.Log.Error("the autopsy could not judge a request: this is a fault of wattline", "id", rec.ID, "panic", v)
			unknown := cache.Verdict{Verdict: cache.Unknown, Why: faulty}
			unknown.Fill(rec)
		}
	}()
	unread := ""
	for _, why := range rec.Unread() {
		if strings.HasPrefix(why, "request_") {
			unread = strings.TrimPrefix(why, "request_")
		}
	}
	if b == nil && unread == "" {
		return
	}
	var p *prompt.Prompt
	sent := at - 1000*rec.DurationUs.V
	if b != nil {
		var tooLarge bool
		if p, tooLarge = b.take(); tooLarge {
			unread = "it did not fit into --autopsy-memory"
		}
		sent = b.sent
	}
	judged := computed(rec)
	if !judged && (sent == 0 || !mayHaveComputed(rec)) {
		return
	}
	q := requestOf(rec, p)
	q.Ended, q.Started, q.Unread = at, sent+1000*(rec.QueueUs.V+rec.LoadUs.V), unread
	q.Generation = generation
	if r.server != nil {
		facts, restarts := r.server()
		q.Facts, q.Generation = facts, generation+restarts
	}
	if !judged {
		if p == nil || !p.Broken || p.Unread != "" {
			r.a.cameBetween(q)
		}
		if rec.Outcome == meter.Cancelled { // a trace has cancelled requests too
			r.a.keep(p, rec)
		}
		return
	}
	r.judge(q, rec)
}

// mayHaveComputed reports whether the server may have worked on the prompt of a request that it did not answer.
func mayHaveComputed(rec *meter.Record) bool {
	return rec.Outcome == meter.Cancelled || rec.Outcome == meter.UpstreamError && !rec.TTFBUs.Valid
}

// cameBetween adds a request of which it is not known what the server computed.
func (a *Autopsy) cameBetween(q *cache.Request) {
	q.Prompt = nil
	a.mu.Lock()
	defer a.mu.Unlock()
	a.history.Add(q)
}

// computed reports whether the server worked on the request's prompt.
func computed(rec *meter.Record) bool {
	return rec.Status.V > 0 && rec.Status.V < 400 && rec.Outcome != meter.Rejected && (rec.Outcome != meter.Cancelled || rec.PromptTokens.Valid)
}

// reached notes whether the upstream answered: one that was away for a time has begun anew. The caller holds mu.
func (r *Route) reached(rec *meter.Record) {
	if rec.Status == meter.Some(504) { // it is there, and slow
		return
	}
	away := rec.Outcome == meter.UpstreamError && !rec.TTFBUs.Valid || rec.Status == meter.Some(503) && rec.Outcome == meter.UpstreamError
	if away && !r.down {
		r.downs++
	}
	r.down = away
}

func (r *Route) judge(q *cache.Request, rec *meter.Record) {
	a := r.a
	v := r.verdict(q)
	v.Fill(rec)
	a.keep(q.Prompt, rec)
	if a.cfg.Text && v.Verdict == cache.Client && v.Change.Now != v.Change.Before {
		a.cfg.Log.Info("a prompt changed, so that its cache was lost", "id", rec.ID, "part", v.Part, "cause", v.Cause, "before", v.Change.Before, "now", v.Change.Now)
	}
}

// keep offers a prompt's fingerprint to the store.
func (a *Autopsy) keep(p *prompt.Prompt, rec *meter.Record) {
	if p != nil && a.cfg.Keep && !p.Broken {
		a.cfg.Offer(&sink.Prompt{ID: rec.ID, StartedAt: rec.StartedAt, Fingerprint: p.Append(nil)})
	}
}

// verdict judges a request and adds it to the history.
func (r *Route) verdict(q *cache.Request) cache.Verdict {
	a := r.a
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shrink()
	v := a.history.Judge(q)
	switch {
	case q.Unread != "" || q.Prompt != nil && q.Prompt.Unread != "":
		unread := *q
		unread.Prompt = nil
		a.history.Add(&unread)
	case q.Prompt != nil && !q.Prompt.Broken:
		a.history.Add(q)
	}
	if !v.Ask || r.client == nil {
		return v
	}
	if !r.mayAsk(q.Ended) {
		v.Why += "; /slots was not read: it was being read, or had been read within 200 ms"
		return v
	}
	a.asking.Add(1)
	pending := &ask{done: make(chan struct{}), verdict: v}
	a.asked[q.ID] = pending
	go r.ask(pending, q) // bounded by askTimeout; Stop waits for it
	return v
}

// askGap is the least time between two readings of a route's slots, ns.
const askGap = int64(200 * time.Millisecond)

// mayAsk takes the right to read the slots, which ask gives back.
func (r *Route) mayAsk(at int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asking || r.asked != 0 && at-r.asked < askGap {
		return false
	}
	r.asking, r.asked = true, at
	return true
}

// ask reads the server's slots for a loss that nothing else explains.
func (r *Route) ask(pending *ask, q *cache.Request) {
	defer r.a.asking.Done()
	defer close(pending.done)
	defer func() {
		if v := recover(); v != nil {
			r.a.cfg.Log.Error("the autopsy could not judge slots: this is a fault of wattline", "id", q.ID, "panic", v)
		}
	}()
	seen, err := slots(context.Background(), r.client)
	r.mu.Lock()
	r.asking = false
	r.mu.Unlock()
	if err != nil {
		return
	}
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	r.a.history.Refine(&pending.verdict, q, seen)
}
