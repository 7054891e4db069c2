package metertest

import (
	"fmt"
	"strings"

	"wattline/meter"
)

// Read shows a reply to a Meter one byte a read, a microsecond after the one before.
func Read(r Reply) (Facts, *meter.Record) {
	var m meter.Meter
	path, kind := r.Path, r.ContentType
	if path == "" {
		path = Chat
	}
	if kind == "" {
		kind = Stream
	}
	m.BeginRequest(meter.RequestHead{Method: "POST", Path: path})
	m.RequestBody([]byte(r.Request))
	m.BeginReply(meter.ReplyHead{Status: 200, At: epoch, Header: func(name string) []byte {
		if strings.EqualFold(name, "Content-Type") {
			return []byte(kind)
		}
		return nil
	}})
	for i := range len(r.Body) {
		at := epoch + 1e3*int64(i+1)
		m.ReplyBody([]byte(r.Body[i:i+1]), at, at)
	}
	rec := &meter.Record{Outcome: meter.OK}
	m.Fill(rec, meter.Marks{P0: epoch, P1: epoch, H: epoch, E: epoch + 1e3*int64(len(r.Body)+1)}, true)
	o := m.Observations()
	f := Facts{
		Outcome: rec.Outcome, Outputs: rec.OutputEvents.V, First: o.FirstNs.V / 1e3, Last: o.LastNs.V / 1e3, Answer: rec.TTFOUs.V,
		Finish: rec.FinishReason, Prompt: rec.PromptTokens, Cached: rec.CachedTokens, Output: rec.OutputTokens,
	}
	if rec.Details != nil {
		f.Notices = rec.Details.Notices.V
	}
	return f, rec
}

const epoch = int64(1e15)

// What replies are made of.
const (
	Chat   = "/v1/chat/completions"
	Stream = "text/event-stream"
)

// String is one cell of a table.
func (f Facts) String() string {
	n := func(i meter.Int) string {
		if !i.Valid {
			return "-"
		}
		return fmt.Sprint(i.V)
	}
	s := fmt.Sprintf("%s, %d out, tokens %s/%s/%s", f.Outcome, f.Outputs, n(f.Prompt), n(f.Cached), n(f.Output))
	if f.Notices > 0 {
		s += fmt.Sprintf(", %d notices", f.Notices)
	}
	return s
}
