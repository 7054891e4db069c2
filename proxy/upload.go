package proxy

import (
	"errors"
	"fmt"
	"os"
	"time"

	"wattline/proxy/http1"
	"wattline/proxy/rawconn"
)

// firstChunkGrace is how long a head waits for the first chunk's size. Clients send the two together; one that
// does not may be waiting for an early answer, so the head is then forwarded alone.
const firstChunkGrace = 200 * time.Millisecond

// awaitFirstChunk reads until the first chunk's size is complete, so that a request with a malformed body
// from the start never reaches the upstream. It does not wait for a client that expects 100-continue.
func (x *exchange) awaitFirstChunk() error {
	c := x.c
	until := c.arrived.Add(min(firstChunkGrace, x.srv.cfg.BodyIdle))
	probe := sizeProbe{ChunkScanner: c.body.Chunks}
	for c.head.Body == http1.Chunked && !c.head.ExpectContinue {
		if err := probe.look(c.buffered()); err != nil {
			return statusError(400, err.Error())
		}
		if probe.SizeKnown() {
			return nil
		}
		switch err := c.receive(time.Until(until), rawconn.SmallSize+http1.MaxChunkLine); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return x.clientReadError(err)
		}
	}
	return nil
}

// sizeProbe looks for the first chunk's size in bytes that stay where they are. It looks at each byte once.
type sizeProbe struct {
	http1.ChunkScanner
	seen int
}

// look looks at the bytes of b behind those of the last call.
func (p *sizeProbe) look(b []byte) error {
	for p.seen < len(b) && !p.SizeKnown() {
		n, _, err := p.Next(b[p.seen : p.seen+1])
		if err != nil {
			return err
		}
		p.seen += n
	}
	return nil
}

// A body of at most smallBody bytes is awaited for smallBodyGrace, since many clients write it right behind the head:
// the request can then be sent in one piece, on a kept connection.
const (
	smallBody      = 16 << 10
	smallBodyGrace = 5 * time.Millisecond
)

// awaitSmallBody reads until a small body of known size is complete.
func (x *exchange) awaitSmallBody() error {
	c := x.c
	if c.head.Body != http1.Sized || c.head.Length > smallBody || c.head.ExpectContinue {
		return nil
	}
	until := c.arrived.Add(min(smallBodyGrace, x.srv.cfg.BodyIdle))
	for int64(len(c.buffered())) < c.head.Length {
		if c.head.Length > rawconn.SmallSize {
			c.growForUpload()
		}
		switch err := c.receive(time.Until(until), rawconn.LargeSize); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return x.clientReadError(err)
		}
	}
	return nil
}

// upload sends the rest of the body. It is started by forward and ends with the body, when the client leaves, or
// when the upstream cannot be written to. finish waits for it.
func (x *exchange) upload() {
	defer close(x.uploaded)
	defer x.srv.recoverPanic("an upload failed", func() { x.uploadFailed(statusError(500, "internal error")) })
	c := x.c
	c.growForUpload()
	defer c.releaseBuffer()
	for !c.body.Done() {
		if len(c.buffered()) == 0 {
			if err := c.receive(x.srv.cfg.BodyIdle, rawconn.LargeSize); err != nil {
				x.uploadFailed(x.clientReadError(err))
				return
			}
		}
		piece, before, err := c.takeBody()
		if err != nil {
			x.uploadFailed(err)
			return
		}
		if c.body.Done() { // before the write, since the reply may arrive before that returns
			x.received.Store(true)
		}
		if _, err := x.writeUp(piece); err != nil {
			return // the upstream closed; its reply says why
		}
		x.showBody(piece, before)
	}
	x.sent(x.srv.now())
}

// uploadFailed ends the exchange because the body is malformed, too slow or incomplete.
func (x *exchange) uploadFailed(err error) {
	var why *http1.StatusError
	errors.As(err, &why)
	if x.state.CompareAndSwap(live, cancelled) {
		x.uploadFail.Store(why) // nil if the client left
		x.abortUpstream()
	} else if x.state.CompareAndSwap(detached, cancelled) { // a stream of half a request cannot be resumed
		x.abortUpstream()
	}
}

// clientReadError makes the error for a failed read from the client.
func (x *exchange) clientReadError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return statusError(408, fmt.Sprintf("no byte of the request's body arrived for %v", x.srv.cfg.BodyIdle))
	}
	return errClientLeft
}

// showBody shows the payload of a piece of the request's body to the meter.
func (x *exchange) showBody(piece []byte, body http1.Body) {
	for len(piece) > 0 {
		n, payload, err := body.Next(piece)
		if err != nil || n == 0 {
			return
		}
		if len(payload) > 0 {
			x.inBytes.Add(int64(len(payload)))
			if x.requestInflater != nil {
				x.requestInflater.Write(payload, 0, 0)
			} else {
				x.metered(func() { x.meter.RequestBody(payload) })
			}
		}
		piece = piece[n:]
	}
}

// endUpload waits for the uploader after the reply has ended, and stops it if it still runs.
func (x *exchange) endUpload() {
	if x.uploaded == nil {
		return
	}
	select {
	case <-x.uploaded:
	default:
		x.stopUpload()
		x.c.readTimeout = 0 // stopUpload moved the read deadline
	}
	if why := x.uploadFail.Load(); why != nil && !x.replied {
		x.refusal = why
	}
}

// stopUpload stops the uploader: nothing reads the rest of the body. If only the last write is under way, it
// gets 10 ms to end.
func (x *exchange) stopUpload() {
	if x.received.Load() {
		select {
		case <-x.uploaded:
			return
		case <-time.After(10 * time.Millisecond):
		}
	} else {
		x.keepAlive = false
	}
	x.abortUpstream()
	for {
		_ = x.c.Conn.SetReadDeadline(time.Unix(1, 0))
		select {
		case <-x.uploaded:
			return
		case <-time.After(10 * time.Millisecond): // the uploader may have set its deadline after ours
		}
	}
}
