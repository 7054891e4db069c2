package proxy

import (
	"bufio"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wattline/meter"
	"wattline/proxy/stub"
)

// TestLongIdleStream: minutes of nothing but pings, then the tokens: no deadline is a total one.
func TestLongIdleStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := stub.New(stub.Config{FirstToken: 25 * time.Minute, PingInterval: 30 * time.Second, TokenGap: 50 * time.Second})
		f, dial := bubbleFront(t, stubOn(t, up), func(c *Config) {
			c.UpstreamIdle, c.WriteIdle, c.KeepAliveIdle, c.BodyIdle, c.HeaderIdle = time.Minute, time.Minute, time.Minute, time.Minute, time.Minute
		})
		nc := dial()
		send(t, nc, postOf("/v1/chat/completions", "long", chat(5, "")))
		_, body := readReply(t, bufio.NewReader(nc), http.MethodPost)
		if n := strings.Count(body, ":\n\n"); n != 49 || !strings.HasSuffix(body, "data: [DONE]\n\n") {
			t.Errorf("%d pings in %s", n, short(body))
		}
		rec := f.rows.row(t, "long")
		if rec.Outcome != meter.OK || rec.TTFTUs != meter.Some((25*time.Minute).Microseconds()) || rec.ITLMaxUs != meter.Some((50*time.Second).Microseconds()) {
			t.Errorf("row: %s, ttft %+v, itl %+v", rec.Outcome, rec.TTFTUs, rec.ITLMaxUs)
		}
	})
}

// TestEcho: a client that asks for it gets the row's id and the admin address; others do not.
func TestEcho(t *testing.T) {
	_, url := startStub(t, stub.Config{FirstToken: 10 * time.Millisecond, TokenGap: time.Millisecond})
	f := startFront(t, url, func(c *Config) { c.Admin = "127.0.0.1:11435" })
	for i, c := range []struct {
		header string
		told   bool
	}{{"X-Wattline-Echo: 1\r\n", true}, {"x-wattline-echo: 1\r\n", true}, {"", false}, {"X-Wattline-Echo: 0\r\n", false}} {
		for _, fault := range []string{"", "X-Stub-Fault: close\r\n"} {
			id := fmt.Sprintf("echo%d%d", i, len(fault))
			nc := dial(t, f.addr)
			send(t, nc, strings.Replace(postOf("/completion", id, chat(2, "")), "\r\n", "\r\n"+c.header+fault, 1))
			resp, _ := readReply(t, bufio.NewReader(nc), http.MethodPost)
			rec := f.rows.row(t, id)
			gotID, gotAdmin := resp.Header.Get("X-Wattline-Id"), resp.Header.Get("X-Wattline-Admin")
			if c.told && (gotID != rec.ID || gotAdmin != "127.0.0.1:11435") || !c.told && gotID+gotAdmin != "" {
				t.Errorf("%q, %d: id %q (row %q), admin %q", c.header, resp.StatusCode, gotID, rec.ID, gotAdmin)
			}
			_ = nc.Close()
		}
	}
}

// traced is a Tracer that continues the client's trace, or declines.
type traced struct{ declines atomic.Bool }

func (tr *traced) Trace(seq uint64, header func(string) []byte) (traceparent, traceID string) {
	if tr.declines.Load() {
		return "", ""
	}
	id := "0af7651916cd43dd8448eb211c80319c"
	if p := strings.Split(string(header("traceparent")), "-"); len(p) == 4 {
		id = p[1]
	}
	return fmt.Sprintf("00-%s-%016x-01", id, seq), id
}

// TestTracing: with a Tracer the upstream gets exactly one traceparent, its own; all else is as it was.
func TestTracing(t *testing.T) {
	up := startScripted(t, listen(t))
	var tr traced
	f := startFront(t, up.url(), func(c *Config) { c.Tracer = &tr })
	own := regexp.MustCompile(`\r\ntraceparent: 00-([0-9a-f]{32})-[0-9a-f]{16}-01`)
	for _, c := range []struct{ name, header, id string }{
		{"none", "", "0af7651916cd43dd8448eb211c80319c"},
		{"client's", "TraceParent: 00-11111111111111111111111111111111-2222222222222222-01\r\ntracestate: a=b\r\n", "11111111111111111111111111111111"},
		{"two", "traceparent: x\r\nA: b\r\ntraceparent: y\r\n", "0af7651916cd43dd8448eb211c80319c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			up.received()
			id := "trace-" + c.name[:3]
			nc := dial(t, f.addr)
			raw := "GET /echo HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + id + "\r\n" + c.header + "\r\n"
			send(t, nc, raw)
			readReply(t, bufio.NewReader(nc), "GET")
			got := up.received()
			m := own.FindStringSubmatch(got)
			if m == nil || m[1] != c.id || strings.Count(strings.ToLower(got), "traceparent") != 1 {
				t.Errorf("the upstream received %q", got)
			}
			without := regexp.MustCompile(`(?i)\r\ntraceparent: [^\r]*`)
			if without.ReplaceAllString(got, "") != without.ReplaceAllString(raw, "") {
				t.Errorf("beside it, %q became %q", raw, got)
			}
			if rec := f.rows.row(t, id); rec.TraceID != c.id {
				t.Errorf("row: trace %q", rec.TraceID)
			}
		})
	}
	tr.declines.Store(true)
	up.received()
	nc := dial(t, f.addr)
	raw := "GET /echo HTTP/1.1\r\nHost: x\r\ntraceparent: 00-11111111111111111111111111111111-2222222222222222-01\r\n\r\n"
	send(t, nc, raw)
	readReply(t, bufio.NewReader(nc), "GET")
	if got := up.received(); got != raw {
		t.Errorf("declined: %q became %q", raw, got)
	}
}
