package meter

// RequestHead is what the meter wants to know of a request's head. Header looks a header up, case
// ignored, and returns its first value or nil; the bytes are only read during the call.
type RequestHead struct {
	Method string
	Path   string // without the query
	Header func(name string) []byte
}

// ReplyHead is what the meter wants to know of a reply's head. At is mark H.
type ReplyHead struct {
	Status int
	Header func(name string) []byte
	At     int64
}

// Progress is what one call of ReplyBody brought. The relay hands it on as it happens.
type Progress struct {
	Outputs      int   // output events (generated content, reasoning or tool-call deltas) in these bytes
	First        bool  // the exchange's first output is among them
	Done         bool  // the reply's own last event is among them ([DONE], message_stop, "stop":true, response.completed, ...)
	PrefillDone  int64 // prompt tokens processed so far, where the server tells (return_progress); else 0
	PrefillTotal int64
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
type Meter struct{}

// Reset forgets the exchange and keeps the buffers.
func (m *Meter) Reset() {}

// BeginRequest is called once, when the request's head is known.
func (m *Meter) BeginRequest(h RequestHead) {}

// RequestBody is shown the request's body, framing removed, in pieces of any size.
func (m *Meter) RequestBody(p []byte) {}

// BeginReply is called when the final (not 1xx) reply head is known.
func (m *Meter) BeginReply(h ReplyHead) {}

// ReplyBody is shown the reply's body, transfer framing removed, in pieces of any size, after they were
// written to the client: read is the stamp of their arrival, written the stamp after the flush.
func (m *Meter) ReplyBody(p []byte, read, written int64) Progress { return Progress{} }

// Fill ends the exchange and writes all that the bytes and marks tell into rec. clean says that the
// upstream ended its reply by its own framing. Outcome, Status, identity and byte counts are the
// caller's, except that an error inside a stream sets Outcome and Error.
func (m *Meter) Fill(rec *Record, marks Marks, clean bool) {}
