package twin

import (
	"fmt"
	"testing"

	"wattline/meter"
)

// TestTwinReusesAsRecorded: a twin of agents' sessions reuses as many tokens in each turn as the server did when they were
// recorded, within one block, whatever the agents change.
func TestTwinReusesAsRecorded(t *testing.T) {
	w := newWorld(t)
	tools := w.tools(6)
	system := w.prose(400)
	a := w.agent("session a", system, tools)
	for range 40 {
		a.turn()
	}
	b := w.agent("session b", system+w.prose(30), tools) // parts from a in the middle of the system prompt
	c := w.agent("session c", system, tools[:4])         // in the tools
	for i := range 10 {
		b.turn()
		c.turn()
		if i == 4 { // a sub-agent begins as its parent goes on
			d := &agent{w: w, session: "session b", tools: b.tools, messages: append([]object{}, b.messages...)}
			d.turn()
			d.turn()
		}
		if i == 6 { // an edited message
			c.messages[3] = object{"role": "user", "content": fmt.Sprint(c.messages[3]["content"])[:100] + w.prose(20)}
		}
		if i == 8 { // the history is compacted
			b.messages = append(b.messages[:1:1], object{"role": "user", "content": "summary: " + w.prose(50)})
		}
	}
	for _, rec := range w.rows {
		if rec.CachedTokens.V == 0 {
			rec.CacheVerdict = "cold"
		}
	}
	tr, m := w.export()
	got := play(t, tr)
	for i, rec := range w.rows {
		r := &tr.Records[i]
		if away := got[i] - int(rec.CachedTokens.V); away > tr.BlockTokens || -away > tr.BlockTokens {
			t.Errorf("record %d (session %d, turn %d, parent %d, repeats %v): %d tokens reused, %d when it was recorded, a block has %d", i, r.Session, r.Turn, r.Parent, r.ReplyTokens, got[i], rec.CachedTokens.V, tr.BlockTokens)
		}
	}
	if tr.Sessions() != 3 || tr.Records[39].Turn != 40 {
		t.Errorf("%d sessions, and the 40th record is turn %d", tr.Sessions(), tr.Records[39].Turn)
	}
	if tr.Records[39].Parent != 38 || tr.Records[39].ThinkUs != meter.Some(3_000_000) {
		t.Errorf("the 40th record continues %d after %v us", tr.Records[39].Parent, tr.Records[39].ThinkUs)
	}
	for _, line := range m.Contains {
		t.Log(line)
	}
}
