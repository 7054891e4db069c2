package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"

	"wattline/meter"
)

// fail notes why the exchange did not come to its end.
func (x *exchange) fail(err error) {
	var why *refusal
	switch {
	case errors.As(err, &why):
		x.refusal = why
	case errors.Is(err, errLeft):
	default:
		x.failure = err.Error()
	}
	x.keep = false
}

// finish ends the exchange: it answers what was refused, settles who owns the upstream connection,
// waits for the uploader and hands the row over. It reports whether the client's connection goes on.
func (x *exchange) finish(panicked any) bool {
	if panicked != nil {
		x.keep, x.failure, x.refusal = false, "internal error", &refusal{500, "internal error of wattline"}
		x.srv.cfg.Log.Error("an exchange failed", "panic", panicked, "id", x.id, "path", x.rec.Path, "stack", string(debug.Stack()))
	}
	won := x.state.CompareAndSwap(live, finished)
	x.keep = x.keep && won
	if x.refusal != nil || !x.clean {
		x.cutUpstream()
	}
	if x.marks.E == 0 {
		x.marks.E = x.srv.now()
	}
	x.endUpload()
	if x.refusal != nil && !x.replied {
		x.replied = true
		x.rec.Status = meter.Some(int64(x.refusal.status))
		x.c.refuseWith(x.refusal, x.replyExtras())
		x.keep = false
	}
	x.releaseUpstream()
	x.c.watch.current.Store(nil)
	x.finishRow(won)
	if !x.deaf.Load() || x.srv.cfg.Unmetered { // what a failed one holds is not known
		meters.Put(x.meter)
	}
	keep := x.keep && x.state.Load() == finished
	if !keep && x.replied && !x.c.bodyDone() {
		x.c.linger()
	}
	return keep
}

// releaseUpstream pools a connection that the reply left clean and closes any other.
func (x *exchange) releaseUpstream() {
	x.mu.Lock()
	up, cut := x.up, x.noUp
	x.up, x.noUp = nil, true
	x.mu.Unlock()
	if up == nil {
		return
	}
	st := x.state.Load()
	if (st == finished || st == detached) && !cut && x.clean && x.refusal == nil && x.reusable() {
		x.srv.pool.put(up)
		return
	}
	_ = up.Close()
}

// reusable reports whether another request may go out on the upstream connection. Both heads must allow
// it, and the reply must have been a sized one: llama-server (build 11669) closes the connection behind
// every chunked reply although its head promises keep-alive, some time after the last chunk, so that no
// look at the socket can be early enough to tell. A dial a stream is the price.
func (x *exchange) reusable() bool {
	return !x.c.head.http10 && !x.reply.http10 && !x.reply.closing && x.reply.status != 101 && x.sentAt.Load() != 0 &&
		(x.reply.body == sized || x.reply.body == noBody)
}

// finishRow completes the record and hands it over.
func (x *exchange) finishRow(won bool) {
	rec := x.rec
	x.marks.R, x.marks.P1 = x.marks.P0, x.sentAt.Load()
	if x.inBytes.Load() > 0 {
		x.marks.R = x.c.last
	}
	rec.Outcome, rec.Error = x.outcome(won)
	rec.RequestBytes, rec.ResponseBytes = meter.Some(x.inBytes.Load()), meter.Some(x.outBytes)
	if x.replied {
		rec.WriteBlockedUs = meter.Some(x.blocked / 1000)
	}
	rec.MeanConcurrency = meter.Some(x.srv.leave(x))
	x.metered(func() { x.meter.Fill(rec, x.marks, x.clean) })
	if rec.Dialect == meter.DialectResume {
		forgetTokens(rec)
	}
	if x.deaf.Load() && !x.srv.cfg.Unmetered && rec.Error == "" {
		rec.Error = "metering failed"
	}
	x.srv.done(x.seq, x.marks.E, rec)
	x.srv.rows.Add(-1)
}

// forgetTokens takes out of a resumed stream's row the counts that its bytes repeat: they are the
// original request's, whose row has them, and a sum over rows must count them once.
func forgetTokens(rec *meter.Record) {
	rec.PromptTokens, rec.CachedTokens, rec.OutputTokens, rec.ReasoningTokens = meter.Int{}, meter.Int{}, meter.Int{}, meter.Int{}
	rec.DraftTokens, rec.DraftAcceptedTokens, rec.TokenSource = meter.Int{}, meter.Int{}, ""
}

// outcome decides how the exchange ended. complete outweighs a client that left behind the last event.
func (x *exchange) outcome(won bool) (meter.Outcome, string) {
	switch {
	case x.refusal != nil && x.refusal.status == 502 || x.refusal != nil && x.refusal.status == 504:
		return meter.UpstreamError, x.refusal.reason
	case x.refusal != nil:
		return meter.Rejected, x.refusal.reason
	case x.clean && !x.unsent, x.complete && !won:
		if x.reply.status >= 400 {
			return meter.UpstreamError, ""
		}
		return meter.OK, ""
	case !won:
		return meter.Cancelled, x.failure
	case !x.replied:
		return meter.UpstreamError, x.failure
	default:
		return meter.Truncated, x.failure
	}
}

// upstreamFailure words a failed read from the upstream.
func (x *exchange) upstreamFailure(err error) error {
	up := x.srv.cfg.Upstream
	switch {
	case x.state.Load() != live && x.state.Load() != detached:
		return errLeft
	case errors.Is(err, os.ErrDeadlineExceeded):
		text := fmt.Sprintf("the upstream %s said nothing for %v", up, x.srv.cfg.UpstreamIdle)
		if x.replied {
			return errors.New(text)
		}
		return &refusal{504, text}
	case x.replied:
		return fmt.Errorf("the upstream %s ended its reply early: %s", up, plain(err))
	default:
		return &refusal{502, fmt.Sprintf("the upstream %s closed the connection without a reply: %s", up, plain(err))}
	}
}

// plain is an error's text without the addresses that net puts in front.
func plain(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "end of stream"
	}
	return strings.TrimPrefix(err.Error(), "read: ")
}
