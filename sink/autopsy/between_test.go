package autopsy

import (
	"fmt"
	"strings"
	"testing"

	"wattline/meter"
	"wattline/meter/cache"
	"wattline/proxy"
	"wattline/sink"
)

// between is a route with a server of one slot, and one request of 300 tokens behind it.
func between(t *testing.T, cfg Config) (r *Route, send func(seq uint64, body []byte, rec *meter.Record) *meter.Record) {
	t.Helper()
	cfg.Secret = []byte("s")
	if cfg.Memory == 0 {
		cfg.Memory = 1 << 20
	}
	r = New(cfg).Route(nil, func() (cache.Facts, int64) { return cache.Facts{Slots: meter.Some(1)}, 0 })
	send = func(seq uint64, body []byte, rec *meter.Record) *meter.Record {
		rec.ID = fmt.Sprint(seq)
		at := int64(seq) * 1e9
		if body != nil {
			_, _ = r.Bodies()(seq, 0).Write(body)
			r.Observe(proxy.Event{Step: proxy.RequestSent, Seq: seq, At: at})
		}
		r.Done(seq, at+5e8, rec)
		return rec
	}
	send(1, requestBody(), served(0))
	return r, send
}

func served(reused int64) *meter.Record {
	return &meter.Record{Status: meter.Some(200), Outcome: meter.OK, PromptTokens: meter.Some(300), CachedTokens: meter.Some(reused), DurationUs: meter.Some(100_000)}
}

// TestCameBetween: a request that the server may have worked on takes from the next one that nothing came between.
func TestCameBetween(t *testing.T) {
	unread := func() *meter.Record {
		rec := served(0)
		rec.Details = &meter.Details{Unread: "request_encoding"}
		return rec
	}
	for name, c := range map[string]struct {
		body  []byte
		rec   *meter.Record
		cause string
	}{
		"nothing":        {nil, &meter.Record{}, cache.NotCutBack},
		"cancelled":      {requestBody(), &meter.Record{Outcome: meter.Cancelled, Status: meter.Some(200)}, cache.Undetermined},
		"no reply":       {requestBody(), &meter.Record{Outcome: meter.UpstreamError, Status: meter.Some(504)}, cache.Undetermined},
		"refused by it":  {requestBody(), &meter.Record{Outcome: meter.UpstreamError, Status: meter.Some(400), TTFBUs: meter.Some(1)}, cache.NotCutBack},
		"unread":         {nil, unread(), cache.Undetermined},
		"too large":      {[]byte(`{"prompt":"` + strings.Repeat("x", 2<<20) + `"}`), served(0), cache.Undetermined},
		"too many parts": {[]byte(`{"tools":[` + strings.Repeat("1,", 20_000) + `1]}`), served(0), cache.Undetermined},
		"another route":  {[]byte(`{"content":"tokenize"}`), &meter.Record{Status: meter.Some(200), Outcome: meter.OK}, cache.NotCutBack},
	} {
		_, send := between(t, Config{})
		got := send(2, c.body, c.rec)
		if strings.HasPrefix(name, "un") || strings.HasPrefix(name, "too") {
			if got.CacheVerdict != cache.Unknown || !strings.Contains(got.Details.CacheWhy, "was not read") {
				t.Errorf("%s: %q", name, got.CacheVerdict)
			}
		}
		if rec := send(3, requestBody(), served(0)); rec.CacheCause != c.cause {
			t.Errorf("%s: %s %s %s", name, rec.CacheVerdict, rec.CacheCause, rec.Details.CacheWhy)
		}
	}
}

// TestSlowIsNotAway: a server that answered nothing in time has not begun anew.
func TestSlowIsNotAway(t *testing.T) {
	for status, want := range map[int64]int64{504: 0, 502: 1} {
		r, send := between(t, Config{})
		send(2, requestBody(), &meter.Record{Outcome: meter.UpstreamError, Status: meter.Some(status)})
		if r.downs != want {
			t.Errorf("%d: away %d times", status, r.downs)
		}
	}
}

// TestPanicInDone: a fault of the autopsy costs its verdict; the row goes on, and so do the next ones.
func TestPanicInDone(t *testing.T) {
	panics := true
	_, send := between(t, Config{Keep: true, Offer: func(*sink.Prompt) bool {
		if panics {
			panic("of the test")
		}
		return true
	}})
	if rec := send(2, requestBody(), served(299)); rec.CacheVerdict != cache.Unknown || !strings.Contains(rec.Details.CacheWhy, "fault of wattline") {
		t.Errorf("%s", rec.CacheVerdict)
	}
	panics = false
	if rec := send(3, requestBody(), served(299)); rec.CacheVerdict != cache.Hit {
		t.Errorf("the next: %s %s", rec.CacheVerdict, rec.Details.CacheWhy)
	}
}

// TestSlotsAreReadSeldom: one reading at a time, and none within 200 ms of the last.
func TestSlotsAreReadSeldom(t *testing.T) {
	r, _ := between(t, Config{})
	for _, c := range []struct {
		at    int64
		ended bool // the reading has, afterwards
		want  bool
	}{{1e9, false, true}, {5e9, true, false}, {1.1e9, false, false}, {1.2e9, false, true}} {
		if got := r.mayAsk(c.at); got != c.want {
			t.Errorf("at %d: %v", c.at, got)
		}
		if c.ended {
			r.asking = false
		}
	}
}
