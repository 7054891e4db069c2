package twin

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/replay/trace"
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

// TestWhatIsNotKnown: rows without a fingerprint have their length alone, cancelled ones get an estimated length and are
// cancelled again, and what cannot be sent is counted by reason.
func TestWhatIsNotKnown(t *testing.T) {
	w := newWorld(t)
	a := w.agent("a", w.prose(200), w.tools(3))
	for range 8 {
		a.turn()
	}
	length := w.rows[7].PromptTokens.V
	w.rows[7].Outcome, w.rows[7].PromptTokens, w.rows[7].CachedTokens, w.rows[7].OutputTokens, w.rows[7].OutputEvents = meter.Cancelled, meter.Int{}, meter.Int{}, meter.Int{}, meter.Some(10)
	w.fps[2] = nil
	several, held := *w.rows[3], *w.rows[4]
	several.Details = &meter.Details{Completions: meter.Some(2)}
	w.rows[3] = &several
	w.fps[4] = w.prompt(object{"previous_response_id": "resp_1", "input": "go on"})
	w.rows[4] = &held
	failed, embedding, lost := *w.rows[0], *w.rows[0], *w.rows[7]
	failed.Outcome, embedding.Dialect = meter.UpstreamError, "embeddings"
	for _, rec := range []*meter.Record{&failed, &embedding, &lost} {
		w.rows, w.fps = append(w.rows, rec), append(w.fps, nil)
	}
	tr, m := w.export()
	if len(tr.Records) != 8 || m.LeftOut["failed"] != 1 || m.LeftOut[noText] != 1 || m.LeftOut[noLength] != 1 {
		t.Fatalf("%d records, left out %v", len(tr.Records), m.LeftOut)
	}
	for i := range tr.Records {
		r := &tr.Records[i]
		if bare := i >= 2 && i <= 4; (r.Blocks == nil) != bare || bare && (r.Parent >= 0 || r.Input != int(w.rows[i].PromptTokens.V)) {
			t.Errorf("record %d: %d blocks, parent %d, %d tokens", i, len(r.Blocks), r.Parent, r.Input)
		}
	}
	last := &tr.Records[7]
	if last.CancelUs != meter.Some(2_000_000) || last.Output != 2*10+moreOutput || math.Abs(float64(last.Input)-float64(length)) > 0.1*float64(length) {
		t.Errorf("the cancelled one: %d in (%d in truth), %d out, cancelled after %v", last.Input, length, last.Output, last.CancelUs)
	}
	said := strings.Join(m.Contains, "\n")
	for _, want := range []string{"5 of 8 prompts have them, the others have their length alone and share nothing", "1 prompts of cancelled requests have an estimated length"} {
		if !strings.Contains(said, want) {
			t.Errorf("the manifest does not say %q: %s", want, said)
		}
	}
}

// TestOneServer: rows of several servers or models are not one workload.
func TestOneServer(t *testing.T) {
	w := newWorld(t)
	a := w.agent("a", w.prose(50), nil)
	a.turn()
	a.turn()
	other := *w.rows[1]
	other.Upstream = "http://10.9.9.9:1"
	w.rows[1] = &other
	for _, c := range []struct {
		x    Exporter
		want string
	}{
		{Exporter{}, "several servers or models (http://10.1.2.3:8080 tiny: 1, http://10.9.9.9:1 tiny: 1): choose with --upstream and --model"},
		{Exporter{Upstream: "http://10.9.9.9:1"}, ""},
		{Exporter{Models: []string{"huge"}}, "no row of this time can be replayed: of another server or model: 2"},
	} {
		for i, rec := range w.rows {
			c.x.Add(rec, w.fps[i])
		}
		if _, _, err := c.x.Trace(nil); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if _, _, err := (&Exporter{}).Trace(nil); err == nil || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("no rows: %v", err)
	}
}

// TestSettingsOfTemplates: settings that change nothing in the prompt do not part prompts; those with which reuse was lost do.
func TestSettingsOfTemplates(t *testing.T) {
	for _, lost := range []bool{false, true} {
		w := newWorld(t)
		messages := []object{{"role": "system", "content": w.prose(300)}, {"role": "user", "content": "go"}}
		for _, choice := range []string{"auto", "none", "auto", "none"} {
			rec := w.ask("s", object{"messages": messages, "tools": []object{}, "tool_choice": choice}, "", w.prose(10))
			if lost && choice == "none" {
				rec.CacheCause = "settings_changed"
			}
		}
		tr, _ := w.export()
		if same := tr.Records[0].Blocks[0] == tr.Records[1].Blocks[0]; same == lost {
			t.Errorf("reuse lost: %v, and the first blocks are the same: %v", lost, same)
		}
		if tr.Records[1].Blocks[0] != tr.Records[3].Blocks[0] {
			t.Errorf("equal settings do not share: %v and %v", tr.Records[1].Blocks, tr.Records[3].Blocks)
		}
	}
}

// TestMooncake: blocks of 512 tokens, the last with what remains; equal numbers are equal beginnings, and read again they are
// the same trace.
func TestMooncake(t *testing.T) {
	w := newWorld(t)
	a := w.agent("a", w.prose(900), w.tools(4))
	for range 6 {
		a.turn()
	}
	w.fps[3] = nil
	tr, m := w.export()
	file := filepath.Join(t.TempDir(), "trace.jsonl.gz")
	if err := WriteFile(file, "mooncake", m, tr); err != nil {
		t.Fatal(err)
	}
	got, err := trace.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.Format != "mooncake" || got.BlockTokens != mooncakeBlock || len(got.Records) != 6 {
		t.Fatalf("%s, blocks of %d, %d records", got.Format, got.BlockTokens, len(got.Records))
	}
	first := got.Records[0].Blocks
	for i := range got.Records {
		r := &got.Records[i]
		if r.Input != tr.Records[i].Input || len(r.Blocks) != (r.Input+511)/512 {
			t.Errorf("record %d: %d tokens, %d blocks", i, r.Input, len(r.Blocks))
		}
		if shared := r.Blocks[0] == first[0] && r.Blocks[len(first)-2] == first[len(first)-2]; shared == (i == 3) {
			t.Errorf("record %d shares its beginning with the first: %v", i, shared)
		}
	}
}

// TestExtendedBeforeItsEnd: a prompt that goes on behind another one which is still being answered does not continue it, and
// shares all of it.
func TestExtendedBeforeItsEnd(t *testing.T) {
	w := newWorld(t)
	messages := []object{{"role": "system", "content": w.prose(100)}, {"role": "user", "content": w.prose(30)}}
	first := w.ask("s", object{"messages": messages, "tools": []object{}}, "", w.prose(10))
	w.now = first.StartedAt.Add(time.Second)
	w.ask("s", object{"messages": append(messages, object{"role": "user", "content": w.prose(30)}), "tools": []object{}}, "", w.prose(10))
	tr, _ := w.export()
	a, b := &tr.Records[0], &tr.Records[1]
	if b.Parent != -1 {
		t.Errorf("it continues record %d", b.Parent)
	}
	shared := 0
	for _, block := range a.Blocks[:common(a.Blocks, b.Blocks)] {
		shared += int(block.Tokens)
	}
	if a.Input-shared > 1 {
		t.Errorf("%d of %d tokens are shared: %v and %v", shared, a.Input, a.Blocks, b.Blocks)
	}
}

// TestCutSessions: what a server reused of a prompt from before the span, or with settings that part prompts, is no count of the
// place that the exported prompts share.
func TestCutSessions(t *testing.T) {
	w := newWorld(t)
	system := w.prose(300)
	agents := []*agent{w.agent("a", system, nil), w.agent("b", system, nil), w.agent("c", system, nil)}
	for range 6 {
		for _, a := range agents {
			a.turn()
		}
	}
	since := len(w.rows) - 6 // two turns of each
	w.rows, w.fps = w.rows[since:], w.fps[since:]
	tr, _ := w.export()
	shared := 0
	for _, b := range tr.Records[0].Blocks[:common(tr.Records[0].Blocks, tr.Records[1].Blocks)] {
		shared += int(b.Tokens)
	}
	truth := len(tokenize(system)) + 1
	if away := shared - truth; away > truth/5 || -away > truth/5 {
		t.Errorf("the system prompt has %d tokens, %d in truth", shared, truth)
	}

	w = newWorld(t)
	for i := range 3 {
		rec := w.ask("s", object{"messages": []object{{"role": "user", "content": fmt.Sprint(i) + w.prose(300)}}, "tools": []object{}, "tool_choice": fmt.Sprint(min(i, 1))}, "", "yes")
		if i > 0 {
			rec.CacheVerdict, rec.CacheCause, rec.CachedTokens = "client", "settings_changed", meter.Some(5000)
			rec.Details = &meter.Details{CachePredecessor: w.rows[i-1].ID}
		}
	}
	x := &Exporter{}
	for i, rec := range w.rows {
		x.Add(rec, w.fps[i])
	}
	for i := range x.list {
		if n := x.list[i].told; n > root {
			t.Errorf("record %d tells the tokens of place %d, of weight %v", i, n, x.tree.nodes[n].weight)
		}
	}
}

// TestContinuesItsOwnSession: of two sessions with equal prompts each continues its own.
func TestContinuesItsOwnSession(t *testing.T) {
	w := newWorld(t)
	messages := []object{{"role": "user", "content": w.prose(100)}}
	for range 2 {
		for _, session := range []string{"a", "b"} {
			w.ask(session, object{"messages": messages, "tools": []object{}}, "", "yes")
		}
		messages = append(messages, object{"role": "assistant", "content": "yes"}, object{"role": "user", "content": w.prose(20)})
	}
	tr, _ := w.export()
	if a, b := tr.Records[2].Parent, tr.Records[3].Parent; a != 0 || b != 1 {
		t.Errorf("the second turns continue %d and %d", a, b)
	}
}

// TestCancelledOfOneServer: cancelled rows are of the one server and model too, under any name that an answered row was asked by.
func TestCancelledOfOneServer(t *testing.T) {
	for _, c := range []struct {
		upstream, model string
		want            string
	}{
		{"http://10.1.2.3:8080", "tiny", ""},
		{"http://10.1.2.3:8080", "alias", ""},
		{"http://10.1.2.3:8080", "huge", "several servers or models (http://10.1.2.3:8080 huge: 1, http://10.1.2.3:8080 tiny: 1)"},
		{"http://10.9.9.9:1", "alias", "several servers or models (http://10.1.2.3:8080 tiny: 1, http://10.9.9.9:1 alias: 1)"},
	} {
		w := newWorld(t)
		a := w.agent("a", w.prose(50), nil)
		a.turn().Details = &meter.Details{RequestedModel: "alias"}
		rec := a.turn()
		rec.Outcome, rec.Upstream, rec.Model = meter.Cancelled, c.upstream, c.model
		x := &Exporter{}
		for i, rec := range w.rows {
			x.Add(rec, w.fps[i])
		}
		if _, _, err := x.Trace(nil); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s: %v, want %q", c.upstream, c.model, err, c.want)
		}
	}
}
