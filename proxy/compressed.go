package proxy

import (
	"io"
	"slices"
	"strings"

	"wattline/meter"
	"wattline/proxy/inflate"
)

// A compressed body is inflated by a goroutine of its own (package inflate), which shows it to the meter. So it may be read
// later than it passed: the row waits for that, the connection does not.

// beginRequest shows the request's head to the meter.
func (x *exchange) beginRequest() {
	var in *inflate.Stream
	known := true
	if codings := x.c.head.List("Content-Encoding"); codings != nil {
		in, known = inflate.New(codings, x.showInflatedRequest, x.requestInflated)
	}
	var body io.Writer
	if b := x.srv.cfg.Bodies; b != nil {
		body = b(x.seq, x.c.head.Length)
	}
	x.meter.BeginRequest(meter.RequestHead{
		Method: x.rec.Method, Path: x.rec.Path, Header: x.c.get, Identify: x.srv.cfg.Identify, Slots: &x.srv.slots, Loads: &x.srv.loads, Prompts: &x.srv.prompts,
		Inflated: known, Body: body, KeepStamps: x.srv.cfg.KeepGaps,
	})
	if x.meter.ReadsRequest() {
		x.requestInflater = in
		x.awaitInflater(in)
	}
}

func (x *exchange) showInflatedRequest(p []byte, _, _ int64) {
	x.metered(func() { x.meter.RequestBody(p) })
}

func (x *exchange) showInflatedReply(p []byte, read, written int64) {
	x.metered(func() { x.meterReply(p, read, written) })
}

// requestInflated runs when a compressed request has been read. If the reply came first, replyBegan has reported P1.
func (x *exchange) requestInflated() {
	if at := x.sentAt.Load(); at != 0 {
		x.sentOnce.Do(func() {
			var work meter.Work
			x.metered(func() { work = x.meter.Work() })
			x.reportSent(at, work)
		})
	}
	x.readerEnded()
}

// awaitInflater makes the row wait for an inflater.
func (x *exchange) awaitInflater(s *inflate.Stream) {
	if s != nil {
		x.readers.Add(1)
	}
}

// readerEnded is called by the exchange and by each inflater when it shows no more bytes to the meter. The last one hands the
// row over.
func (x *exchange) readerEnded() {
	if x.readers.Add(-1) == 0 {
		x.handOver()
	}
}

// beginReply shows the reply's head to the meter. A compressed request may not have been read yet; then the reply's head
// says what is known of its work.
func (x *exchange) beginReply(at int64) {
	var out *inflate.Stream
	known := true
	if codings := x.replyCodings(); codings != nil {
		out, known = inflate.New(codings, x.showInflatedReply, x.readerEnded)
	}
	x.meter.BeginReply(meter.ReplyHead{Status: x.reply.Status, Header: x.c.replyGet, At: at, Inflated: known})
	if x.meter.ReadsReply() {
		x.replyInflater = out
		if out != nil {
			out.Live = x.meter.WorkByReply().Streams
		}
		x.awaitInflater(out)
	}
	if sent := x.sentAt.Load(); sent != 0 && x.requestInflater != nil {
		x.sentOnce.Do(func() { x.reportSent(sent, x.meter.WorkByReply()) })
	}
}

// replyCodings lists what the reply's body is compressed with: its content codings, and around them transfer codings.
func (x *exchange) replyCodings() []byte {
	content, transfer := x.reply.List("Content-Encoding"), x.reply.List("Transfer-Encoding")
	if len(transfer) == 0 || strings.EqualFold(string(transfer), "chunked") {
		return content
	}
	return slices.Concat(content, []byte{','}, transfer)
}

// closeInflaters tells them that no more comes.
func (x *exchange) closeInflaters() {
	if in := x.requestInflater; in != nil {
		in.Close(false) // sent has closed that of a whole body
	}
	if out := x.replyInflater; out != nil {
		out.Close(x.replyEnded)
	}
}

// tellUnread tells the meter what the inflaters could not read.
func (x *exchange) tellUnread() {
	if in := x.requestInflater; in != nil {
		if why := in.Wait(); why != "" {
			x.meter.RequestUnread(why)
		}
	}
	if out := x.replyInflater; out != nil {
		if why := out.Wait(); why != "" {
			x.meter.ReplyUnread(why)
		}
	}
}
