package proxy

import "wattline/meter"

// Step is a point in an exchange at which an Observer is called.
type Step uint8

// The steps, in the order in which they can happen. P0, P1 and H are the marks of meter/DEFINITIONS.md.
const (
	RequestArrived  Step = iota // P0: the request's head is complete
	RequestSent                 // P1: the last byte of the request was written to the upstream
	HeadersReceived             // H: the reply's head arrived; for a stream that llama-server accepts, a slot has started
	OutputReceived              // output events arrived; Progress says how many
)

// Event is one step of one exchange.
type Event struct {
	Seq      uint64 // of the exchange, unique within its Server
	Step     Step
	At       int64          // monotonic nanoseconds of the Server's clock
	Work     meter.Work     // with RequestSent: the work that the request asks for
	Bytes    int64          // with RequestSent: size of the request's body
	Status   int            // with HeadersReceived: the reply's
	Progress meter.Progress // with OutputReceived
}

// Observer is told of every exchange. Its methods run on the data path and must not block. For one
// exchange they are called in order; Done is the last call and hands over the finished row.
type Observer interface {
	Observe(Event)
	Done(seq uint64, at int64, rec *meter.Record)
}

// Tracer chooses the traceparent that is sent upstream. It is asked once for each request with a valid
// head, before the request can be refused, so that a refusal is part of the client's trace too. It runs on
// the data path and must not block. header reads the client's headers; traceID goes into the row. With an
// empty traceparent the client's own header is passed on unchanged.
type Tracer interface {
	Trace(seq uint64, header func(name string) []byte) (traceparent, traceID string)
}

// NopObserver is an Observer that does nothing.
type NopObserver struct{}

// Observe implements Observer.
func (NopObserver) Observe(Event) {}

// Done implements Observer.
func (NopObserver) Done(uint64, int64, *meter.Record) {}
