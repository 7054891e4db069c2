package meter_test

import (
	"net/http"
	"testing"

	"wattline/meter"
)

// TestSlotsLive asks a real llama-server for a slot by number, on a native and a chat route: the request's
// body tells it first, the reply's end confirms it. A chat reply tells only under -lv 10.
func TestSlotsLive(t *testing.T) {
	live := &liveServers{t: t}
	addr := live.start(&flavour{name: "slots", args: []string{"-np", "4", "-c", "8192", "-lv", "10"}})
	for _, c := range []struct {
		path, body string
		slot       int64
	}{
		{"/completion", `{"prompt":"hi","n_predict":4,"id_slot":2,"stream":true}`, 2},
		{"/completion", `{"prompt":"hi","n_predict":4,"id_slot":3}`, 3},
		{chat, `{` + hello + `,"max_tokens":4,"id_slot":1}`, 1},
		{chat, `{` + hello + `,"max_tokens":4,"id_slot":2,"stream":true}`, 2},
		{"/completion", `{"prompt":"hi","n_predict":4,"id_slot":0,"stream":true}`, 0},
	} {
		tr := &transcript{Name: c.path, Method: http.MethodPost, Path: c.path, Body: c.body}
		if err := tr.send(addr, 0); err != nil {
			t.Fatal(err)
		}
		var m meter.Meter
		r := tr.reply(t)
		o := tr.playBody(&m, nil, &r)
		wantInt(t, c.body+": asked", m.Work().Slot, c.slot)
		wantInt(t, c.body+": told", o.details().Slot, c.slot)
	}
}

// TestSlotInProgress: the relay hears of the slot with the bytes that tell it.
func TestSlotInProgress(t *testing.T) {
	m := streaming("/completion")
	wantInt(t, "while it runs", m.ReplyBody([]byte(at(0, `{"content":"x","stop":false,"id_slot":-1}`).text), 6e6, 6e6).Slot, -1)
	wantInt(t, "at its end", m.ReplyBody([]byte(at(0, `{"content":"","stop":true,"stop_type":"eos","id_slot":2}`).text), 7e6, 7e6).Slot, 2)
	wantInt(t, "asked for none", m.Work().Slot, -1)
	m.BeginRequest(meter.RequestHead{Path: chat})
	m.RequestBody([]byte(`{"id_slot":-1}`))
	wantInt(t, "asked for any", m.Work().Slot, -1)
}
