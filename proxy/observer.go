package proxy

import "wattline/meter"

// Phase is a step of an exchange that matters to whoever divides energy.
type Phase uint8

// The phases, in the order in which they can happen.
const (
	Arrived  Phase = iota // P0
	Sent                  // P1: the request is with the upstream
	Headed                // H: the reply's head is here; for a stream of llama-server that is not refused, a slot has started
	Produced              // output events arrived; Progress says how many
)

// Event tells an Observer of a step. Seq names the exchange within this Server.
type Event struct {
	Seq      uint64
	Phase    Phase
	At       int64          // monotonic nanoseconds of the Server's clock
	Work     meter.Work     // with Sent: what was asked for
	Bytes    int64          // with Sent: size of the request's body
	Status   int            // with Headed: the reply's
	Progress meter.Progress // with Produced
}

// Observer is told of every exchange. Its methods are called on the data path: they must not block,
// and are called for one exchange in order. Done hands the finished row over.
type Observer interface {
	Observe(Event)
	Done(seq uint64, at int64, rec *meter.Record)
}

// Tracer gives the traceparent that goes upstream. It decides everything; the proxy only replaces the
// header. It is asked once for each request whose head was read, before anything else is decided about
// it, so that one which is refused belongs to its client's trace too; it is on the data path and must not
// block. header reads the client's headers; the returned trace id goes into the row. An empty traceparent
// leaves the client's own untouched.
type Tracer interface {
	Trace(seq uint64, header func(name string) []byte) (traceparent, traceID string)
}

// Deaf is an Observer that drops everything.
type Deaf struct{}

// Observe does nothing.
func (Deaf) Observe(Event) {}

// Done does nothing.
func (Deaf) Done(uint64, int64, *meter.Record) {}
