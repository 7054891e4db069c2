package meter_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"wattline/meter"
)

// FuzzSplit: however the body of a captured reply is split, the record is the same: with the reads'
// times kept, in every column; with other reads, in every column that is not a time.
func FuzzSplit(f *testing.F) {
	all := loadTranscripts(f)
	for i := range all {
		f.Add(i, []byte{0}, false)
		f.Add(i, []byte{9, 1, 4, 200}, true)
	}
	replies := make([]reply, len(all))
	for i, tr := range all {
		replies[i] = tr.reply(f)
	}
	f.Fuzz(func(t *testing.T, which int, cuts []byte, newReads bool) {
		if len(cuts) == 0 {
			return
		}
		tr := all[uint(which)%uint(len(all))]
		whole := replies[uint(which)%uint(len(all))]
		cut := whole
		cut.body = resplit(whole.body, cuts, newReads)
		var a, b meter.Meter
		want, got := tr.playBody(&a, nil, &whole), tr.playBody(&b, nil, &cut)
		if newReads {
			timeless(want.Record)
			timeless(got.Record)
			want.Observations, got.Observations = nil, nil
		}
		if w, g := string(want.json(t)), string(got.json(t)); w != g {
			t.Fatalf("%s cut by %v:\n%s", tr.Name, cuts, lineDiff(w, g))
		}
	})
}

// resplit cuts pieces anew, each of the lengths in cuts in a cycle. Without newReads the parts of a
// piece keep its time; with it, boundaries are ignored and every part is a read of its own.
func resplit(body []piece, cuts []byte, newReads bool) (out []piece) {
	if newReads {
		var all []byte
		for _, p := range body {
			all = append(all, p.b...)
		}
		body = []piece{{all, 0}}
	}
	k := 0
	for _, p := range body {
		for rest := p.b; len(rest) > 0; k++ {
			n := min(len(rest), int(cuts[k%len(cuts)])+1)
			at := p.at
			if newReads {
				at = 2*epochNs + int64(k)*1e6
			}
			out = append(out, piece{rest[:n], at})
			rest = rest[n:]
		}
	}
	return out
}

// timeless drops the columns that are times or follow from them.
func timeless(r *meter.Record) {
	for _, c := range meter.Columns() {
		if i, ok := c.Ptr(r).(*meter.Int); ok && (c.Unit == "us" || c.Name == "stalls") {
			*i = meter.Int{}
		}
	}
	// Of the details, where a phase came from and how many reads there were follow the times.
	if r.Details != nil {
		d := *r.Details
		d.QueueSource, d.PrefillSource, d.DecodeSource, d.NegativeQueue = "", "", "", meter.Int{}
		d.OutputReads, d.MaxOutputsPerRead = meter.Int{}, meter.Int{}
		r.Details = &d
	}
}

// FuzzHostile: whatever a server or client sends, nothing panics, texts are bounded and valid, and the
// Meter works on afterwards.
func FuzzHostile(f *testing.F) {
	for _, tr := range loadTranscripts(f) {
		r := tr.reply(f)
		f.Add(tr.Path, r.header.Get("Content-Type"), int64(r.status), []byte(tr.Body), r.bytes(), byte(7))
	}
	f.Add("/v1/messages", "text/event-stream", int64(200), []byte("[[[[{\"model\":"), []byte("data: {\"choices\":[{\"index\":99999999999999,\"delta\":{\"content\":\"x\"}}]}\n\n"), byte(0))
	f.Add("/completion", "application/json", int64(200), []byte("\x00\xff"), []byte("[{\"content\":\"\\ud800\",\"timings\":{\"predicted_n\":-1e999}}]"), byte(1))
	good := transcript{Name: "good", Method: http.MethodPost, Path: "/completion", Body: `{"stream":true}`, Raw: []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" +
		"data: {\"content\":\"x\",\"stop\":false}\n\ndata: {\"content\":\"\",\"stop\":true,\"stop_type\":\"eos\",\"timings\":{\"predicted_n\":1,\"prompt_n\":2,\"cache_n\":0}}\n\n")}
	good.Reads = [][2]int64{{10, int64(len(good.Raw))}}
	f.Fuzz(func(t *testing.T, path, contentType string, status int64, request, answer []byte, step byte) {
		if len(path)+len(contentType) > 1<<12 {
			return
		}
		var m meter.Meter
		bad := transcript{Method: http.MethodPost, Path: path, Body: string(request)}
		r := reply{status: int(status), header: http.Header{"Content-Type": {contentType}}, at: epochNs + 5, end: epochNs + 9e6, clean: true}
		r.body = resplit([]piece{{answer, epochNs + 6e6}}, []byte{step}, false)
		o := bad.playBody(&m, nil, &r)
		for _, c := range meter.Columns() {
			if s, ok := c.Ptr(o.Record).(*string); ok && c.Name != "path" && (len(*s) > 3*512 || !utf8.ValidString(*s)) {
				t.Errorf("%s: %d bytes, valid UTF-8 %v", c.Name, len(*s), utf8.ValidString(*s))
			}
			if i, ok := c.Ptr(o.Record).(*meter.Int); ok && c.Name != "status" && i.V < 0 {
				t.Errorf("%s = %d", c.Name, i.V)
			}
		}
		if _, err := json.Marshal(o.Record); err != nil && !strings.Contains(err.Error(), "UTF-8") {
			t.Error(err)
		}
		after := good.play(t, &m, nil)
		if after.Record.OutputTokens != meter.Some(1) || after.Record.PromptTokens != meter.Some(2) || after.Record.Error != "" {
			t.Errorf("the next exchange is wrong: %s", after.json(t))
		}
	})
}

// FuzzPieces: any body at all, captured or not, gives the same record and observations when each of its bytes
// comes alone as when it comes whole.
func FuzzPieces(f *testing.F) {
	for _, tr := range loadTranscripts(f) {
		r := tr.reply(f)
		f.Add(tr.Path, r.header.Get("Content-Type"), r.bytes(), byte(0))
	}
	const event = `data: {"choices":[{"index":0,"delta":{"content":"x"}}]}` + "\n\n"
	for _, s := range []string{`"`, `\`, `\"`, "\n", "\r", "\x00", "", "x\"}}]}\n\ndata: {", "é"} {
		f.Add(chat, "text/event-stream", []byte(event+strings.Replace(event, "x", s, 1)+event), byte(3))
	}
	f.Fuzz(func(t *testing.T, path, contentType string, body []byte, step byte) {
		if len(body) > 1<<16 || len(path)+len(contentType) > 1<<10 {
			return
		}
		tr := transcript{Method: http.MethodPost, Path: path, Body: `{"stream":true}`, keep: 4}
		whole := reply{status: 200, header: http.Header{"Content-Type": {contentType}}, at: epochNs + 5, end: epochNs + 9e6, clean: true, body: []piece{{body, epochNs + 6e6}}}
		cut := whole
		cut.body = resplit(whole.body, []byte{step}, false)
		var a, b meter.Meter
		want, got := tr.playBody(&a, nil, &whole), tr.playBody(&b, nil, &cut)
		want.Record.WriteBlockedUs, got.Record.WriteBlockedUs = meter.Int{}, meter.Int{} // pieces are flushed each
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("in pieces of %d:\n%s", step+1, lineDiff(string(want.json(t)), string(got.json(t))))
		}
	})
}
