package proxy

import (
	"errors"
	"fmt"
	"os"
	"time"
	"wattline/proxy/http1"
	"wattline/proxy/rawconn"
)

// firstChunkGrace is how long a head waits for the first chunk size behind it. Clients send the two
// together; one that does not may be waiting for an early answer, and shall have it.
const firstChunkGrace = 200 * time.Millisecond

// awaitFirstChunk reads on until the first chunk size is known to be one, so that a request whose body
// is malformed from the start never reaches the upstream. A client that waits for 100-continue sends
// none before.
func (x *exchange) awaitFirstChunk() error {
	c := x.c
	until := c.arrived.Add(min(firstChunkGrace, x.srv.cfg.BodyIdle))
	for c.head.Body == http1.Chunked && !c.head.ExpectContinue {
		probe := c.body.Chunks
		for b := c.buffered(); len(b) > 0 && !probe.SizeKnown(); {
			n, _, err := probe.Next(b[:1])
			if err != nil {
				return statusError(400, err.Error())
			}
			b = b[n:]
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

// upload sends what remains of the body. It is started by forward, ends when the body does, the client
// leaves or the upstream takes no more, and finish waits for it.
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
		if c.body.Done() { // before the write: the reply may be here as soon as that returns
			x.received.Store(true)
		}
		if _, err := x.writeUp(piece); err != nil {
			return // the upstream has heard enough; its reply says why
		}
		x.showBody(piece, before)
	}
	x.sent(x.srv.now())
}

// uploadFailed ends the exchange because of what the client sent or did not send.
func (x *exchange) uploadFailed(err error) {
	var why *http1.StatusError
	errors.As(err, &why)
	if x.state.CompareAndSwap(live, cancelled) {
		x.uploadFail.Store(why) // nil if the client left
		x.abortUpstream()
	} else if x.state.CompareAndSwap(detached, cancelled) { // half a request makes no stream to resume
		x.abortUpstream()
	}
}

// clientReadError says what a failed read from the client means.
func (x *exchange) clientReadError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return statusError(408, fmt.Sprintf("no byte of the request's body came for %v", x.srv.cfg.BodyIdle))
	}
	return errClientLeft
}

// showBody shows the payload in a piece of the request's body to the meter.
func (x *exchange) showBody(piece []byte, body http1.Body) {
	for len(piece) > 0 {
		n, payload, err := body.Next(piece)
		if err != nil || n == 0 {
			return
		}
		if len(payload) > 0 {
			x.inBytes.Add(int64(len(payload)))
			x.metered(func() { x.meter.RequestBody(payload) })
		}
		piece = piece[n:]
	}
}

// endUpload waits for the uploader. The reply is over: one that is still writing the last bytes is given
// a moment, one that is still waiting for the client is woken, as nobody will read the rest.
func (x *exchange) endUpload() {
	if x.uploaded == nil {
		return
	}
	select {
	case <-x.uploaded:
	default:
		x.stopUpload()
		x.c.readTimeout = 0 // its deadline was moved to wake the uploader
	}
	if why := x.uploadFail.Load(); why != nil && !x.replied {
		x.refusal = why
	}
}

// stopUpload ends an uploader whose work has become pointless.
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
		case <-time.After(10 * time.Millisecond): // its own deadline may have come behind ours
		}
	}
}
