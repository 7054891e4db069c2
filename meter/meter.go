package meter

import "io"

// RequestHead is the part of a request's head that the meter needs. Header looks a header up, case
// ignored, and returns its first value or nil; the bytes are only read during the call.
type RequestHead struct {
	Method string
	Path   string // without the query
	Header func(name string) []byte

	// Identify decides how a user named in the body is kept; nil: not at all.
	Identify *Identify
	// Slots is shared by the exchanges of one upstream; nil: each exchange judges for itself.
	Slots *SlotClock
	// Loads is shared by the exchanges of one upstream; nil: only loads that the reply tells are known.
	Loads *LoadClock
	// Inflated: RequestBody is shown the body with its content codings removed.
	Inflated bool
	// Prompts is shared by the exchanges of one upstream; nil: no prompt is judged.
	Prompts *PromptRatios
	// Body is written what RequestBody is shown, where the request makes a model generate; nil: nothing. Its errors are ignored.
	Body io.Writer
	// KeepStamps keeps the arrival of up to so many reads that brought output, in Observations.Stamps.
	KeepStamps int
}

func (h RequestHead) header(name string) []byte {
	if h.Header == nil {
		return nil
	}
	return h.Header(name)
}

// ReplyHead is the part of a reply's head that the meter needs. At is mark H.
type ReplyHead struct {
	Status int
	Header func(name string) []byte
	At     int64

	Inflated bool // ReplyBody is shown the body with its content codings removed
}

func (h ReplyHead) header(name string) []byte {
	if h.Header == nil {
		return nil
	}
	return h.Header(name)
}

// Progress is the result of one call of ReplyBody. The relay passes it on at once.
type Progress struct {
	Outputs      int   // output events (generated content, reasoning or tool-call deltas) in these bytes
	First        bool  // the exchange's first output is among them
	Done         bool  // the reply contained its own end mark ([DONE], message_stop, "stop":true, ...); the proxy's outcome needs it
	PrefillDone  int64 // prompt tokens processed so far, with return_progress; else 0
	PrefillTotal int64
	Slot         Int // the slot that serves the request, where these bytes name it: llama-server's native replies do, at their end
}

// Marks are the stamps that the relay took: monotonic nanoseconds, 0 where it never happened.
type Marks struct {
	P0 int64 // request head read
	R  int64 // last request byte received
	P1 int64 // request fully sent upstream
	H  int64 // head of the upstream's reply read
	E  int64 // end of the upstream's reply, or of the exchange
}

// Meter reads one exchange. The zero value is ready; Reset makes it ready again. RequestBody may run
// beside the reply's methods (an upload may outlast an early reply); everything else is called from
// one goroutine at a time. No method keeps a slice that it is given.
//
// A Meter holds at most 19 KiB whatever passes through it; pool it. Nothing is allocated while an
// exchange runs, once the Meter has seen one.
type Meter struct {
	dialect  dialect
	identify *Identify
	slots    *SlotClock
	loads    *LoadClock
	prompts  *PromptRatios
	status   int
	sends    bool // the method sends something to work on

	// Owned by RequestBody until Fill.
	request request
	// Owned by BeginReply and ReplyBody until Fill.
	reply reply

	details      Details      // copied by Fill
	observations Observations // valid from Fill to the next BeginRequest or Reset

	// Values of the last exchanges' rows. They often repeat; sharing them avoids allocations.
	lastAsked, lastServed, lastFinish, lastBuild string
	lastDetails                                  *Details
}

// Reset forgets the exchange and keeps the buffers.
func (m *Meter) Reset() {
	m.dialect, m.identify, m.slots, m.loads, m.prompts, m.status, m.sends = dialect{}, nil, nil, nil, nil, 0, false
	m.request.forget()
	m.reply.forget()
	m.details, m.observations = Details{}, Observations{}
}

// BeginRequest is called once, when the request's head is known.
func (m *Meter) BeginRequest(h RequestHead) {
	m.Reset()
	m.dialect = dialectOf(h.Method, h.Path)
	m.identify, m.slots, m.loads, m.prompts = h.Identify, h.Slots, h.Loads, h.Prompts
	m.sends = h.Method == "POST" || h.Method == "PUT" || h.Method == "PATCH"
	m.reply.time.keep = h.KeepStamps
	m.request.begin(h)
	if m.dialect.generates && m.sends {
		m.request.copy = h.Body
	}
	if m.dialect.name == "" {
		m.request.off = "path is not metered"
	}
}

// RequestBody is shown the request's body, framing removed, in pieces of any size.
func (m *Meter) RequestBody(p []byte) { m.request.body(p) }

// BeginReply is called when the final (not 1xx) reply head is known.
func (m *Meter) BeginReply(h ReplyHead) {
	m.status = h.Status
	m.reply.asked = &m.request.completions
	m.reply.begin(h, m.dialect.name)
	if m.reply.inEvents() && m.reply.llama && h.Status == 200 {
		m.loads.served(h.At)
	}
}

// ReplyBody is shown the reply's body, transfer framing removed, in pieces of any size, after they were
// written to the client: read is the stamp of their arrival, written the stamp after the flush. Pieces
// with the same read stamp count as one read.
func (m *Meter) ReplyBody(p []byte, read, written int64) Progress {
	progress := m.reply.body(p, read, written)
	progress.Done = m.reply.done
	return progress
}

// Observations returns facts about the exchange that are not in its row. Call it after Fill; the result is valid until the
// next BeginRequest or Reset.
func (m *Meter) Observations() *Observations { return &m.observations }

// Gaps returns the distribution of the gaps between output events of each completion, nil if there
// were none. It is valid until the next BeginRequest or Reset.
func (m *Meter) Gaps() *Sketch {
	if g := m.reply.time.gaps; g != nil && g.Count() > 0 {
		return g
	}
	return nil
}
