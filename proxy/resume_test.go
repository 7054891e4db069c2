package proxy

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/proxy/stub"
)

// TestResumableStream: a client that leaves a stream with X-Conversation-Id does not end it. The real
// server generates on, wattline reads to the end for the row's sake, and another request resumes the
// stream (GET /v1/stream?conv_id=ID in build 11669), with a row without tokens.
func TestResumableStream(t *testing.T) {
	srv := llamatest.Start(t, "-np", "1", "-c", "65536", "-t", "1", "-tb", "1")
	f := startFront(t, srv.URL())
	tokens := llamatest.Tokens(t, srv, 500*time.Millisecond, 2000)
	early, rounds := 0, 3
	for i := range rounds {
		if resumes(t, f, fmt.Sprint("talk", i), tokens) {
			early++
		}
	}
	if 2*early < rounds {
		t.Errorf("%d of %d clients left before their stream's end: this machine is too busy", early, rounds)
	}
}

// resumes leaves a stream and has another request resume it. It reports whether the client left well before the
// stream's end, compared with how long a bare relay needs to notice a client that leaves at the same moment.
func resumes(t *testing.T, f *front, talk string, tokens int) (early bool) {
	t.Helper()
	bare := startBareRelay(t)
	nc := dial(t, f.addr)
	body := strings.Replace(chat(tokens, `,"ignore_eos":true`), "\n", "", 1)
	send(t, nc, strings.Replace(postOf("/v1/chat/completions", "first-"+talk, body), "\r\n", "\r\nX-Conversation-Id: "+talk+"\r\n", 1))
	seen := untilMarker(t, nc, `"content":"`)
	bareTook := bare.leave()
	_ = nc.Close()
	left := time.Now()

	nc = dial(t, f.addr)
	send(t, nc, "GET /v1/stream?conv_id="+talk+" HTTP/1.1\r\nHost: x\r\nX-Request-Id: resumed-"+talk+"\r\n\r\n")
	resp, rest := readReply(t, bufio.NewReader(nc), http.MethodGet)
	first := f.rows.row(t, "first-"+talk)
	remained := first.StartedAt.Add(time.Duration(first.DurationUs.V) * time.Microsecond).Sub(left)
	if remained <= leaveWithin+2*bareTook() {
		t.Logf("the client of %s left only %v before its end", talk, remained)
		return false
	}
	if resp.StatusCode != 200 || !strings.HasSuffix(rest, "data: [DONE]\n\n") || !strings.Contains(rest, fmt.Sprintf(`"predicted_n":%d,`, tokens)) {
		t.Fatalf("resumed: %s %s", resp.Status, short(rest))
	}
	id := seen[strings.Index(seen, `"id":"`) : strings.Index(seen, `"id":"`)+30]
	if !strings.Contains(rest, id) {
		t.Errorf("another stream was resumed: no %s", id)
	}
	if first.Outcome != meter.Cancelled || first.OutputTokens != meter.Some(int64(tokens)) || !first.TTFTUs.Valid {
		t.Errorf("row of the one that left: %s, %+v tokens, ttft %+v (%s)", first.Outcome, first.OutputTokens, first.TTFTUs, first.Error)
	}
	resumed := f.rows.row(t, "resumed-"+talk)
	if resumed.Outcome != meter.OK || resumed.Dialect != meter.DialectResume || resumed.OutputTokens.Valid || resumed.PromptTokens.Valid || resumed.TokenSource != "" {
		t.Errorf("row of the one that came: %s, %s, %+v tokens, %+v prompt", resumed.Outcome, resumed.Dialect, resumed.OutputTokens, resumed.PromptTokens)
	}
	return true
}

// TestResumableAtAnyMoment: leaving before the head, twice noticed, or mid-upload.
func TestResumableAtAnyMoment(t *testing.T) {
	up, url := startStub(t, stub.Config{Slots: 50, HeaderDelay: 30 * time.Millisecond, FirstToken: 60 * time.Millisecond, TokenGap: 2 * time.Millisecond})
	f := startFront(t, url)
	resumable := func(id string, body string) string {
		return strings.Replace(postOf("/v1/chat/completions", id, body), "\r\n", "\r\nX-Conversation-Id: c-"+id+"\r\n", 1)
	}
	const tokens = 100
	early, late := 0, 0 // left well before the stub's end; of those, noticed too late
	for _, c := range []struct {
		id    string
		until func(stub.Exchange) bool
	}{
		{"before-head", func(e stub.Exchange) bool { return !e.Arrived.IsZero() }},
		{"before-token", func(e stub.Exchange) bool { return !e.Headed.IsZero() }},
		{"mid-stream", func(e stub.Exchange) bool { return e.Output > 2 }},
	} {
		for i, how := range []string{"fin", "reset", "fin", "reset", "fin", "reset"} {
			id := fmt.Sprintf("%s-%s-%d", c.id, how, i)
			bare := startBareRelay(t)
			nc := dial(t, f.addr)
			send(t, nc, resumable(id, chat(tokens, "")))
			awaitStub(t, up, id, c.until)
			if how == "reset" {
				_ = nc.SetLinger(0)
			}
			bareTook := bare.leave()
			_ = nc.Close()
			left := time.Now()
			ex := awaitStub(t, up, id, func(e stub.Exchange) bool { return !e.Ended.IsZero() })
			rec := f.rows.row(t, id)
			if !ex.Complete || ex.Output != tokens || rec.OutputTokens != meter.Some(tokens) {
				t.Errorf("%s: complete %v with %d tokens; row %s with %+v (%s)", id, ex.Complete, ex.Output, rec.Outcome, rec.OutputTokens, rec.Error)
			}
			if ex.Ended.Sub(left) > leaveWithin+2*bareTook() {
				early++
				if rec.Outcome != meter.Cancelled {
					late++
					t.Logf("%s: row %s (%s), %v before the end", id, rec.Outcome, rec.Error, ex.Ended.Sub(left))
				}
			}
		}
	}
	if early < 9 || 10*late > early { // as for paired
		t.Errorf("%d of 18 clients left early; %d of those were noticed too late", early, late)
	}

	// Half a request is none: its upstream connection is not kept waiting for the other half.
	nc := dial(t, f.addr)
	msg := resumable("half", chat(40, ""))
	send(t, nc, msg[:len(msg)-10])
	f.awaitLive(t, 1)
	_ = nc.Close()
	if rec := f.rows.row(t, "half"); rec.Outcome != meter.Cancelled {
		t.Errorf("half: row %s %q", rec.Outcome, rec.Error)
	}

	// A client that stays until the end has left nothing behind.
	nc = dial(t, f.addr)
	send(t, nc, resumable("stays", chat(5, "")))
	readReply(t, bufio.NewReader(nc), http.MethodPost)
	if rec := f.rows.row(t, "stays"); rec.Outcome != meter.OK {
		t.Errorf("stays: row %s %q", rec.Outcome, rec.Error)
	}
}
