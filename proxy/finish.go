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
	"wattline/proxy/http1"
)

// fail records why the exchange did not complete.
func (x *exchange) fail(err error) {
	var why *http1.StatusError
	switch {
	case errors.As(err, &why):
		x.refusal = why
	case errors.Is(err, errClientLeft):
		x.state.CompareAndSwap(live, cancelled) // the watcher may not have told yet
	default:
		x.failure = err.Error()
	}
	x.keepAlive = false
}

// finish ends the exchange: it answers a refusal, releases the upstream connection, waits for the uploader
// and hands the row over. It reports whether the client's connection can be used again.
func (x *exchange) finish(panicked any) bool {
	if panicked != nil {
		x.keepAlive, x.failure, x.refusal = false, "internal error", statusError(500, "internal error of wattline")
		x.srv.cfg.Log.Error("an exchange failed", "panic", panicked, "id", x.id, "path", x.rec.Path, "stack", string(debug.Stack()))
	}
	won := x.state.CompareAndSwap(live, finished)
	x.keepAlive = x.keepAlive && won
	if x.refusal != nil || !x.replyEnded {
		x.abortUpstream()
	}
	if x.marks.E == 0 {
		x.marks.E = x.srv.now()
	}
	x.endUpload()
	x.forgetMessage()
	if x.refusal != nil && !x.replied {
		x.replied = true
		x.rec.Status = meter.Some(int64(x.refusal.Status))
		x.c.writeError(x.refusal, x.replyExtras())
		x.keepAlive = false
	}
	x.releaseUpstream()
	x.c.departure.current.Store(nil)
	switch {
	case x.broken && x.reply.Body == http1.UntilClose: // sized and chunked replies show it by their framing
		x.c.reset()
	case won && !x.keepAlive && x.replyEnded && x.refusal == nil:
		x.lost = !x.c.endSending()
	}
	x.finishRow(won)
	return x.keepAlive && x.state.Load() == finished
}

// releaseUpstream pools a connection after a clean end of its reply and closes any other.
func (x *exchange) releaseUpstream() {
	x.mu.Lock()
	up, cut := x.up, x.aborted
	x.up, x.aborted = nil, true
	x.mu.Unlock()
	if up == nil {
		return
	}
	st := x.state.Load()
	if (st == finished || st == detached) && !cut && x.replyEnded && x.refusal == nil && x.reusable() {
		x.srv.pool.put(up, x.reply.Body == http1.Chunked)
		return
	}
	_ = up.Close()
}

// reusable reports whether both heads allow another request on the upstream connection, and the reply's end
// was not the connection's.
func (x *exchange) reusable() bool {
	return !x.c.head.HTTP10 && !x.reply.HTTP10 && !x.reply.Close && !x.tunnelled && x.sentAt.Load() != 0 &&
		x.reply.Body != http1.UntilClose
}

// finishRow sets what the connection and the relay know, and has the row handed over.
func (x *exchange) finishRow(won bool) {
	rec := x.rec
	x.marks.R, x.marks.P1 = x.marks.P0, x.sentAt.Load()
	if x.inBytes.Load() > 0 {
		x.marks.R = x.c.lastByteAt
	}
	rec.RequestBytes, rec.ResponseBytes = meter.Some(x.inBytes.Load()), meter.Some(x.outBytes)
	if x.replied {
		rec.WriteBlockedUs = meter.Some(x.blocked / 1000)
	}
	rec.MeanConcurrency = meter.Some(x.srv.leave(x))
	x.won, x.status = won, x.reply.Status // the connection's next request overwrites the latter
	x.closeInflaters()
	x.readerEnded()
}

// handOver completes the row with what the meter has read.
func (x *exchange) handOver() {
	rec := x.rec
	x.metered(x.tellUnread)
	rec.Outcome, rec.Error = x.outcome(x.won, x.status)
	x.metered(func() { x.meter.Fill(rec, x.marks, x.replyEnded) })
	noteLongPath(rec, x.pathBytes)
	if rec.Dialect == meter.DialectResume {
		forgetTokens(rec)
	}
	if x.meterOff.Load() && !x.srv.cfg.Unmetered && rec.Error == "" {
		rec.Error = "metering failed"
	}
	if !x.meterOff.Load() || x.srv.cfg.Unmetered { // the state of one that panicked is unknown
		meterPool.Put(x.meter)
	}
	x.srv.done(x.seq, x.marks.E, rec)
	x.srv.rows.Add(-1)
}

// forgetTokens clears the token counts of a resumed stream's row. The original request's row has them, and a
// sum over rows must count them once.
func forgetTokens(rec *meter.Record) {
	rec.PromptTokens, rec.CachedTokens, rec.OutputTokens, rec.ReasoningTokens = meter.Int{}, meter.Int{}, meter.Int{}, meter.Int{}
	rec.DraftTokens, rec.DraftAcceptedTokens, rec.TokenSource = meter.Int{}, meter.Int{}, ""
}

// outcome decides how the exchange ended. A client that left after the last event has a complete reply.
func (x *exchange) outcome(won bool, status int) (meter.Outcome, string) {
	switch {
	case x.refusal != nil && x.refusal.Status == 502 || x.refusal != nil && x.refusal.Status == 504:
		return meter.UpstreamError, x.refusal.Reason
	case x.refusal != nil:
		return meter.Rejected, x.refusal.Reason
	case x.lost:
		return meter.Truncated, "the client went on sending, so its connection was reset and the end of the reply may be lost"
	case x.replyEnded && !x.skipped.Load(), x.lastEventSent && !won:
		if status >= 400 {
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

// upstreamFailure makes the error for a failed read from the upstream.
func (x *exchange) upstreamFailure(err error) error {
	up := x.srv.cfg.Upstream
	switch {
	case x.state.Load() != live && x.state.Load() != detached:
		return errClientLeft
	case errors.Is(err, os.ErrDeadlineExceeded):
		text := fmt.Sprintf("the upstream %s sent nothing for %v", up, x.srv.cfg.UpstreamIdle)
		if x.replied {
			return errors.New(text)
		}
		return statusError(504, text)
	case x.replied:
		return fmt.Errorf("the upstream %s ended its reply early: %s", up, trimNetError(err))
	default:
		return statusError(502, fmt.Sprintf("the upstream %s closed the connection without a reply: %s", up, trimNetError(err)))
	}
}

// trimNetError is an error's text without the addresses that package net puts before it.
func trimNetError(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "end of stream"
	}
	return strings.TrimPrefix(err.Error(), "read: ")
}
