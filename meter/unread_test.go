package meter_test

import (
	"slices"
	"strings"
	"testing"

	"wattline/meter"
)

// TestUnread: what was not read says so in the row, and what there was nothing to read of does not.
func TestUnread(t *testing.T) {
	const answer = `{"model":"m","choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
	json := func(x exchange) exchange {
		x.kind = "application/json"
		if x.pieces == nil {
			x.pieces = []timed{{9, answer}}
		}
		return x
	}
	for name, c := range map[string]struct {
		x    exchange
		want string
	}{
		"read":                   {json(exchange{request: `{"model":"m"}`}), ""},
		"no body at all":         {json(exchange{}), ""},
		"reply in an odd coding": {json(exchange{headers: map[string]string{"Content-Encoding": "compress"}}), "reply_encoding"},
		"odd coding, no bytes":   {json(exchange{headers: map[string]string{"Content-Encoding": "compress"}, pieces: []timed{}}), ""},
		"reply of an odd type":   {exchange{kind: "audio/wav", pieces: []timed{{9, "RIFF"}}}, "reply_type"},
		"reply not JSON":         {json(exchange{pieces: []timed{{9, "<html>"}}}), "reply_format"},
		"gzip that says nothing": {json(exchange{pieces: []timed{{9, "\x1f\x8b\x08\x00"}}}), "reply_encoding"},
		"request not JSON":       {json(exchange{request: "\x28\xb5\x2f\xfd"}), "request_encoding"},
		"request cut short":      {json(exchange{request: `{"model":"m","stream":`}), ""},
		"both":                   {json(exchange{request: "<xml>", pieces: []timed{{9, "<xml>"}}}), "request_format,reply_format"},
		"an unknown path":        {json(exchange{path: "/v1/images/generations", request: `{}`}), "path"},
		"a path that is idle":    {json(exchange{path: "/apply-template", request: `{}`}), ""},
		"an idle path's child":   {json(exchange{path: "/models/load/", request: `{}`}), ""},
		"an unknown page":        {exchange{path: "/index.html", kind: "text/html", pieces: []timed{{9, "<html>"}}}, ""},
		"an unknown path, 404":   {json(exchange{path: "/v1/images/generations", status: 404, request: `{}`}), ""},
		"a changed protocol":     {exchange{path: "/v1/realtime", status: 101, kind: "-", pieces: []timed{}}, "websocket"},
	} {
		r := c.x.run().Record
		if got := strings.Join(r.Unread(), ","); got != c.want {
			t.Errorf("%s: unread %q, want %q", name, got, c.want)
		}
	}
}

// TestUnreadByTheCaller: what the relay could not inflate is in the row, and what was read before stays.
func TestUnreadByTheCaller(t *testing.T) {
	var m meter.Meter
	var rec meter.Record
	header := func(string) []byte { return []byte("application/json") }
	m.BeginRequest(meter.RequestHead{Method: "POST", Path: chat, Inflated: true})
	m.RequestBody([]byte(`{"model":"asked","messages":[{`))
	m.RequestUnread(meter.UnreadBomb)
	m.BeginReply(meter.ReplyHead{Status: 200, Header: header, Inflated: true})
	m.ReplyBody([]byte(`{"model":"served"}{"model":"not whole","choi`), 5, 6)
	m.ReplyUnread(meter.UnreadCut)
	m.Fill(&rec, meter.Marks{P0: 1, P1: 2, H: 3, E: 9}, true)
	if got := rec.Unread(); !slices.Equal(got, []string{"request_bomb", "reply_cut"}) {
		t.Errorf("unread %q", got)
	}
	if rec.Model != "served" || rec.Details.RequestedModel != "asked" || !strings.HasPrefix(rec.Error, "not fully metered: ") {
		t.Errorf("model %q, asked %q, error %q", rec.Model, rec.Details.RequestedModel, rec.Error)
	}
}

// TestStreamByTheHead: whether a reply streams is told by its head also where its body cannot be read and the request's
// neither.
func TestStreamByTheHead(t *testing.T) {
	for kind, want := range map[string]int64{"text/event-stream": 1, "application/json": 0} {
		r := exchange{kind: kind, headers: map[string]string{"Content-Encoding": "compress"}, pieces: []timed{{9, "\x1f\x9d"}}}.run().Record
		wantInt(t, kind, r.Stream, want)
	}
}
