package meter_test

import (
	"fmt"
	"testing"

	"wattline/meter"
)

// TestLoadClock: what a request waited for an upstream's load is load_us, and the rest up to its slot queue_us: for the
// request that woke the server, for one that waited with it and then for a slot, and for one that came later; of a router's
// models only the one that was asked for counts.
func TestLoadClock(t *testing.T) {
	const s = int64(1e9)
	var c meter.LoadClock
	row := func(model string, sent, head int64) string {
		t.Helper()
		var m meter.Meter
		m.BeginRequest(meter.RequestHead{Method: "POST", Path: "/v1/chat/completions", Loads: &c})
		m.RequestBody([]byte(`{"model":"` + model + `","stream":true}`))
		m.BeginReply(meter.ReplyHead{Status: 200, At: head, Header: func(name string) []byte {
			return []byte(map[string]string{"Server": "llama.cpp", "Content-Type": "text/event-stream"}[name])
		}})
		m.ReplyBody([]byte(`data: {"choices":[{"index":0,"delta":{"content":"x"}}],"id":"c"}`+"\n\n"), head+s, head+s)
		rec := meter.Record{Outcome: meter.OK}
		m.Fill(&rec, meter.Marks{P0: sent, P1: sent, H: head, E: head + 2*s}, true)
		text := func(v meter.Int) string {
			if !v.Valid {
				return "-"
			}
			return fmt.Sprint(float64(v.V) / 1e6)
		}
		return text(rec.LoadUs) + " " + text(rec.QueueUs)
	}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: load and queue %s, want %s", what, got, want)
		}
	}
	check("nothing known", row("m", 1*s, 9*s), "- 8")
	c.Asleep()
	c.Sent(10 * s)
	c.Sent(11 * s)
	check("it woke the server", row("m", 10*s, 18*s), "8 0")
	check("it waited too, and for a slot", row("m", 11*s, 20*s), "7 2")
	check("sent when the server was awake", row("m", 19*s, 21*s), "- 2")
	c.Loading("m", 30*s)
	c.Loading("m", 37*s)
	check("a router loads it", row("m", 29*s, 37*s+meter.LoadLookNs), "8.25 0")
	check("loaded, then it waited for a slot", row("m", 29*s, 40*s), "8 3")
	check("another model", row("n", 29*s, 40*s), "- 11")
	check("loaded before", row("m", 38*s, 40*s), "- 2")
}
