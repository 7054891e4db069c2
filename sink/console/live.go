package console

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wattline/meter"
	"wattline/sink"
)

// LiveConfig holds the sources of the live page. They are asked only while a page is open.
type LiveConfig struct {
	// Inflight lists the requests in flight.
	Inflight func() []LiveRequest
	// Devices lists the devices that are sampled.
	Devices func() []LiveDevice
	// DevicesOf names the devices on which a route's requests compute now.
	DevicesOf func(route string) []string
	// Power is the power of devices between two moments, where the source is fine enough.
	Power func(from, to time.Time) []Curve
	// Past reads what is stored of the time since from. Requests that ended before it are left out.
	Past func(ctx context.Context, from time.Time) (*Past, error)
	Log  *slog.Logger
}

// Past is what is stored of the last minutes.
type Past struct {
	Rows    []*meter.Record
	Configs []*sink.ServerConfig // those in force too, the oldest first
	Power   []*sink.Power
}

// LiveRequest is a request in flight. A zero time has not come.
type LiveRequest struct {
	ID, Route, Agent, Session, Model, Method, Path string
	Slot, Prompt                                   meter.Int // Prompt: its tokens
	StartedAt, SentAt, HeadedAt, FirstAt           time.Time
	Streams, Computes                              bool
	Events                                         int64
}

// LiveDevice is a device as the page shows it.
type LiveDevice struct {
	Device       string    `json:"device"`
	Name         string    `json:"name"`
	Source       string    `json:"source"`
	Driver       string    `json:"driver"`
	Simulated    bool      `json:"simulated"`
	PowerLimitMw meter.Int `json:"power_limit_mw"`
	IdleMw       meter.Int `json:"idle_mw"`
	Reason       string    `json:"-"` // why it cannot be read; "": it can
}

// Bounds of the live pages.
const (
	maxPages     = 32
	pageBacklog  = 50   // ticks that a slow page may be behind
	maxPastRows  = 1000 // rows of the past that a page gets
	tokensEvery  = 5    // ticks between two counts of one request's tokens
	devicesEvery = 10   // ticks between two looks at the devices
	commentEvery = 50   // ticks of silence before a comment
	pastTimeout  = 5 * time.Second
	maxTickRows  = 4096 // rows that wait for a tick
)

// Live follows the traffic for the pages that are open. While there is none it does nothing: what reaches it through the
// observer is dropped at once.
type Live struct {
	cfg   LiveConfig
	hello func() greeting
	open  atomic.Int32 // pages

	inbox   sync.Mutex // guards waiting, seconds, changed; nothing is read or encoded under it
	waiting []*meter.Record
	seconds []*sink.Power
	changed []*sink.ServerConfig

	mu       sync.Mutex // guards what follows; held while the past is read and events are encoded
	pages    map[*livePage]bool
	stopped  bool
	quit     chan struct{} // ends the ticker; nil: it does not run
	ticks    int
	silent   int
	division division
	rows     [][]byte // events of the past
	rowIDs   []string
	configs  []*sink.ServerConfig
	devices  []LiveDevice
	gaps     map[string]*gapEvent // that go on
	inflight map[string]*liveState
	powerTo  time.Time
}

// livePage is an open page.
type livePage struct {
	chunks chan []byte
	lost   atomic.Int64 // chunks that did not fit; the page begins anew
}

// liveState is a request in flight as it was last told.
type liveState struct {
	request LiveRequest
	phase   string
	told    int64 // its events when that was told
	toldAt  time.Time
	here    bool // seen in this tick
}

// NewLive makes a Live without pages or sources.
func NewLive() *Live {
	return &Live{pages: map[*livePage]bool{}, hello: func() greeting { return greeting{} }}
}

// Follow names the sources. It must be called before the first page opens.
func (l *Live) Follow(cfg LiveConfig) { l.cfg = cfg }

// Observer passes every row on, and tells the pages.
func (l *Live) Observer(next sink.Observer) sink.Observer { return liveObserver{next, l} }

type liveObserver struct {
	sink.Observer
	live *Live
}

// Offered tells of a finished row.
func (o liveObserver) Offered(rec *meter.Record) {
	o.Observer.Offered(rec)
	o.live.row(rec)
}

// Settled tells of a row with its joules.
func (o liveObserver) Settled(rec *meter.Record) {
	o.Observer.Settled(rec)
	o.live.row(rec)
}

// Power tells of a second.
func (o liveObserver) Power(p *sink.Power) {
	o.Observer.Power(p)
	if l := o.live; l.open.Load() > 0 {
		l.inbox.Lock()
		if len(l.seconds) < maxTickRows {
			l.seconds = append(l.seconds, p)
		}
		l.inbox.Unlock()
	}
}

func (l *Live) row(rec *meter.Record) {
	if l.open.Load() == 0 {
		return
	}
	l.inbox.Lock()
	if len(l.waiting) < maxTickRows { // else the page misses it; the table has it
		l.waiting = append(l.waiting, rec)
	}
	l.inbox.Unlock()
}

// Config tells of a change of the server's configuration.
func (l *Live) Config(c *sink.ServerConfig) {
	if l.open.Load() == 0 {
		return
	}
	l.inbox.Lock()
	l.changed = append(l.changed, c)
	l.inbox.Unlock()
}

// take empties the inbox.
func (l *Live) take() (rows []*meter.Record, seconds []*sink.Power, changed []*sink.ServerConfig) {
	l.inbox.Lock()
	defer l.inbox.Unlock()
	rows, seconds, changed = l.waiting, l.seconds, l.changed
	l.waiting, l.seconds, l.changed = nil, nil, nil
	return rows, seconds, changed
}

// Pages is how many pages are open.
func (l *Live) Pages() int { return int(l.open.Load()) }

// Stop ends all pages with a reason.
func (l *Live) Stop(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	bye := event(nil, "bye", map[string]string{"reason": reason})
	for p := range l.pages {
		select {
		case p.chunks <- bye:
		default:
		}
		close(p.chunks)
	}
	l.pages = map[*livePage]bool{}
	l.open.Store(0)
	l.endTicks()
}

// endTicks stops the ticker and forgets the past. It is called under the lock.
func (l *Live) endTicks() {
	if l.quit == nil {
		return
	}
	close(l.quit)
	l.quit, l.division, l.rows, l.rowIDs, l.configs, l.inflight = nil, division{}, nil, nil, nil, nil
	l.take()
}

// enter adds a page, which gets the past first; nil where there are too many, or Live has stopped.
func (l *Live) enter() *livePage {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || len(l.pages) >= maxPages {
		return nil
	}
	p := &livePage{chunks: make(chan []byte, pageBacklog)}
	if len(l.pages) == 0 {
		l.take() // what came between the last page's end and now: the past has it
		l.open.Store(1)
		l.begin()
	}
	l.pages[p] = true
	l.open.Store(int32(len(l.pages)))
	p.chunks <- l.past()
	return p
}

// leave removes a page.
func (l *Live) leave(p *livePage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pages, p)
	l.open.Store(int32(len(l.pages)))
	if len(l.pages) == 0 {
		l.endTicks()
	}
}

// begin reads the past and starts the ticker. It is called under the lock.
func (l *Live) begin() {
	now := time.Now()
	from := now.Add(-liveWindow).Truncate(liveStep)
	l.division, l.gaps, l.inflight, l.powerTo, l.ticks = division{}, map[string]*gapEvent{}, map[string]*liveState{}, from, 0
	l.look(now)
	ctx, cancel := context.WithTimeout(context.Background(), pastTimeout)
	defer cancel()
	past, err := l.cfg.Past(ctx, from)
	if err != nil {
		l.cfg.Log.Warn("the live page begins without the last minutes", "error", err)
		past = &Past{}
	}
	l.configs = past.Configs
	l.measure(now, past.Power)
	var skip bytes.Buffer
	for _, rec := range past.Rows {
		if end := rec.StartedAt.Add(time.Duration(rec.DurationUs.V) * time.Microsecond); end.After(from) {
			l.finish(&skip, rec)
		}
	}
	l.follow(&skip, now)
	l.division.pieces(false)
	quit := make(chan struct{})
	l.quit = quit
	go l.run(quit) // ended by endTicks
}

func (l *Live) run(quit chan struct{}) {
	tick := time.NewTicker(liveStep)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		l.mu.Lock()
		if l.quit == quit {
			l.tick(time.Now())
		}
		l.mu.Unlock()
	}
}

// tick tells all pages what is new, each event encoded once.
func (l *Live) tick(now time.Time) {
	l.ticks++
	waiting, seconds, changed := l.take()
	var b bytes.Buffer
	if l.ticks%devicesEvery == 0 {
		for _, g := range l.look(now) {
			b.Write(event(nil, "gap", g))
		}
	}
	for _, c := range changed {
		b.Write(l.config(c))
	}
	l.follow(&b, now)
	for _, rec := range waiting {
		l.finish(&b, rec)
	}
	l.measure(now, seconds)
	for _, p := range l.division.pieces(false) {
		b.Write(event(nil, "power", p))
	}
	l.division.trim(now.UnixNano())
	if l.silent++; b.Len() == 0 && l.silent < commentEvery {
		return
	}
	l.silent = 0
	if b.Len() == 0 {
		b.WriteString(":\n\n")
	}
	l.send(b.Bytes())
}

// send gives a chunk to every page. One that is too slow begins anew.
func (l *Live) send(chunk []byte) {
	for p := range l.pages {
		select {
		case p.chunks <- chunk:
		default:
			p.lost.Add(1)
		}
	}
}

// again is the past for a page that has lost chunks, and how many it had lost.
func (l *Live) again(p *livePage) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.pages[p] {
		return nil
	}
	for len(p.chunks) > 0 { // the past has them
		<-p.chunks
	}
	lost := p.lost.Swap(0)
	return append(event(nil, "lost", map[string]int64{"steps": lost}), l.past()...)
}

// past are the events from hello to ready.
func (l *Live) past() []byte {
	var b bytes.Buffer
	b.Write(event(nil, "hello", l.greeting()))
	for i, c := range l.configs {
		b.Write(event(nil, "config", configEvent(l.configs[:i], c)))
	}
	for _, row := range l.rows {
		b.Write(row)
	}
	for _, p := range l.division.pieces(true) {
		b.Write(event(nil, "power", p))
	}
	for _, g := range l.gaps {
		b.Write(event(nil, "gap", g))
	}
	for _, st := range l.states() {
		b.Write(event(nil, "request", st.tell(false)))
	}
	b.Write(event(nil, "ready", map[string]any{"at": time.Now().UTC()}))
	return b.Bytes()
}

// states are the requests in flight, the oldest first.
func (l *Live) states() (out []*liveState) {
	for _, st := range l.inflight {
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b *liveState) int { return a.request.StartedAt.Compare(b.request.StartedAt) })
	return out
}

func (l *Live) greeting() any {
	h, slots := l.hello(), map[string]meter.Int{} // by route
	for _, c := range l.configs {
		for _, r := range h.Routes {
			if c.Slots.Valid && r.Upstream == c.Upstream {
				slots[r.Route] = c.Slots
			}
		}
	}
	return struct {
		greeting
		Devices  []LiveDevice         `json:"devices"`
		Slots    map[string]meter.Int `json:"slots"`
		WindowUs int64                `json:"window_us"`
		StepUs   int64                `json:"step_us"`
	}{h, append([]LiveDevice{}, l.devices...), slots, liveWindow.Microseconds(), liveStep.Microseconds()}
}

// event appends one event.
func event(b []byte, kind string, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return b
	}
	b = append(append(append(b, "event: "...), kind...), "\ndata: "...)
	return append(append(b, text...), "\n\n"...)
}

// finish tells of a row.
func (l *Live) finish(b *bytes.Buffer, rec *meter.Record) {
	if st := l.inflight[rec.ID]; st != nil {
		b.Write(event(nil, "request", st.tell(true)))
		delete(l.inflight, rec.ID)
	}
	e := event(nil, "row", rec)
	b.Write(e)
	if i := slices.Index(l.rowIDs, rec.ID); i >= 0 {
		l.rows[i] = e
	} else {
		l.rows, l.rowIDs = append(l.rows, e), append(l.rowIDs, rec.ID)
		if n := len(l.rows) - maxPastRows; n > maxPastRows/10 {
			l.rows, l.rowIDs = slices.Clone(l.rows[n:]), slices.Clone(l.rowIDs[n:])
		}
	}
	if rec.Dialect != "" || rec.GPUUj.Valid {
		l.division.finish(rec, l.cfg.DevicesOf(rec.Route))
	}
}

// follow tells of the requests in flight.
func (l *Live) follow(b *bytes.Buffer, now time.Time) {
	for _, st := range l.inflight {
		st.here = false
	}
	for _, r := range l.cfg.Inflight() {
		st := l.inflight[r.ID]
		if st == nil {
			st = &liveState{toldAt: r.FirstAt}
			l.inflight[r.ID] = st
		}
		phase := r.phase()
		tell := st.phase != phase || st.request.Slot != r.Slot || st.request.Prompt != r.Prompt || r.Events != st.told && l.ticks%tokensEvery == 0
		st.request, st.phase, st.here = r, phase, true
		if tell {
			b.Write(event(nil, "request", st.tell(false)))
			st.told, st.toldAt = r.Events, now
		}
		l.division.follow(&r, now, l.cfg.DevicesOf)
	}
	for id, st := range l.inflight {
		if !st.here { // its row is on its way
			delete(l.inflight, id)
			b.Write(event(nil, "request", st.tell(true)))
		}
	}
}

// measure takes the power that has been read since the last look, and seconds for devices without a curve.
func (l *Live) measure(now time.Time, seconds []*sink.Power) {
	fine := map[string]bool{}
	for _, c := range l.cfg.Power(l.powerTo, now) {
		fine[c.Device] = len(c.MilliWatts) > 0 || fine[c.Device]
		l.curve(c)
	}
	for _, p := range seconds {
		if fine[p.Device] || !p.MeanMw.Valid || !l.shown(p.Device) {
			continue
		}
		first, v := p.At.UnixNano()/int64(liveStep), l.division.device(p.Device)
		for b := first; b < first+p.SpanUs.V/liveStep.Microseconds(); b++ {
			v.add(b, p.MeanMw)
		}
	}
	// What comes late is asked for again: a source delivers seconds at a time.
	l.powerTo = now.Add(-5 * time.Second).Truncate(liveStep)
}

func (l *Live) shown(device string) bool {
	return slices.ContainsFunc(l.devices, func(d LiveDevice) bool { return d.Device == device })
}

// curve takes whole steps of a curve.
func (l *Live) curve(c Curve) {
	per := int(liveStep.Microseconds() / max(1, c.StepUs))
	v, begin := l.division.device(c.Device), c.From.UnixNano()
	i := 0
	if rest := begin % int64(liveStep); rest != 0 {
		i = int((int64(liveStep) - rest) / (c.StepUs * 1000))
	}
	for ; per > 0 && i+per <= len(c.MilliWatts); i += per {
		sum := int64(0)
		for _, mw := range c.MilliWatts[i : i+per] {
			sum += mw
		}
		v.add((begin+int64(i)*c.StepUs*1000+int64(liveStep)/2)/int64(liveStep), meter.Some(sum/int64(per)))
	}
}

// gapEvent says that a device cannot be read.
type gapEvent struct {
	Device string     `json:"device"`
	From   time.Time  `json:"from"`
	To     *time.Time `json:"to"`
	Reason string     `json:"reason"`
}

// look reads what is known of the devices, and returns gaps that have begun or ended.
func (l *Live) look(now time.Time) (changed []*gapEvent) {
	l.devices = l.cfg.Devices()
	for _, d := range l.devices {
		l.division.device(d.Device).idle = d.IdleMw.V
		g := l.gaps[d.Device]
		switch {
		case d.Reason != "" && g == nil:
			g = &gapEvent{Device: d.Device, From: now.UTC(), Reason: d.Reason}
			l.gaps[d.Device] = g
			changed = append(changed, g)
		case d.Reason == "" && g != nil:
			at := now.UTC()
			g.To = &at
			delete(l.gaps, d.Device)
			changed = append(changed, g)
		}
	}
	return changed
}

// config tells of a configuration.
func (l *Live) config(c *sink.ServerConfig) []byte {
	e := event(nil, "config", configEvent(l.configs, c))
	l.configs = append(l.configs, c)
	return e
}
