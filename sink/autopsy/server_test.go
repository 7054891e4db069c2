package autopsy_test

import (
	"fmt"
	"testing"

	"wattline/meter"
	"wattline/meter/cache"
)

// losesTo checks that a row's loss is the server's, for a cause.
func losesTo(t *testing.T, r *meter.Record, cause string) {
	t.Helper()
	t.Log(say(r))
	if r.CacheVerdict != cache.Server || r.CacheCause != cause || r.CacheLostTokens.V < r.CacheExpectedTokens.V/2 {
		t.Errorf("%s, want server %s", say(r), cause)
	}
}

func hits(t *testing.T, r *meter.Record) {
	t.Helper()
	if r.CacheVerdict != cache.Hit || r.CacheLostTokens != meter.Some(0) {
		t.Errorf("%s, want a hit", say(r))
	}
}

// TestServerCauses: what a real server does to prompts is named.
func TestServerCauses(t *testing.T) {
	one := meter.Some(1)
	t.Run("two sessions on one slot", func(t *testing.T) {
		b := newBench(t, cache.Facts{Slots: one}, "-np", "1", "--cache-ram", "0")
		x, y := newAgent(b, "x", 30), newAgent(b, "y", 30)
		x.step()
		other := y.step()
		row := x.step()
		losesTo(t, row, cache.SlotTaken)
		if row.Details.CacheTakenBy != other.ID {
			t.Errorf("taken by %s, not by %s", row.Details.CacheTakenBy, other.ID)
		}
		hits(t, x.step())
	})
	t.Run("no prompts in RAM", func(t *testing.T) {
		b := newBench(t, cache.FactsOf(meter.Some(2), meter.Int{}, []string{"--cache-ram", "0"}), "-np", "2", "--cache-ram", "0")
		var agents []*agent
		for i := range 3 {
			agents = append(agents, newAgent(b, fmt.Sprint("agent", i), 30))
			agents[i].step()
		}
		losesTo(t, agents[0].step(), cache.PromptCacheOff)
	})
	t.Run("restart", func(t *testing.T) {
		b := newBench(t, cache.Facts{})
		x := newAgent(b, "x", 30)
		x.step()
		hits(t, x.step())
		b.restart()
		losesTo(t, x.step(), cache.Restarted)
		hits(t, x.step())
	})
	t.Run("restart that only the tasks tell", func(t *testing.T) {
		b := newBench(t, cache.Facts{})
		x := newAgent(b, "x", 20)
		for range 5 {
			x.step()
		}
		b.restart()
		b.mu.Lock()
		b.starts = 0
		b.mu.Unlock()
		losesTo(t, x.step(), cache.Restarted)
	})
	t.Run("cache_prompt false", func(t *testing.T) {
		b := newBench(t, cache.Facts{})
		x := newAgent(b, "x", 30)
		x.step()
		x.change = func(_ *agent, body object) { body["cache_prompt"] = false }
		losesTo(t, x.step(), cache.CachePromptFalse)
	})
}

// restart starts another server in place of the present one.
func (b *bench) restart() {
	next := startServer(b.t)
	b.mu.Lock()
	old := b.server
	b.server, b.starts = next, b.starts+1
	b.mu.Unlock()
	_ = old.Stop()
}

// TestCleanSessions: sessions that only grow, branch, or share their beginning lose nothing by their own fault.
func TestCleanSessions(t *testing.T) {
	sessions, turns := 4, 4
	if whole(t) {
		sessions, turns = 10, 9
	}
	b := newBench(t, cache.Facts{}, "-np", "4")
	judged := 0
	check := func(r *meter.Record) {
		t.Helper()
		judged++
		if r.CacheVerdict == cache.Client || r.CacheVerdict == cache.Unknown || r.CacheVerdict == "" {
			t.Errorf("a clean session: %s", say(r))
		}
	}
	for i := range sessions {
		a := newAgent(b, fmt.Sprintf("s%d", i), 20)
		if i%2 == 1 {
			a.session = fmt.Sprint("session ", i)
		}
		for turn := range turns {
			check(a.step())
			switch {
			case i%4 == 1 && turn == 2: // a sub-agent with the same tools and system prompt, and the same session
				sub := *a
				sub.messages, sub.turn = nil, 0
				for range 3 {
					sub.turn += 100
					check(sub.step())
				}
			case i%4 == 2 && turn == 2: // a branch: the last question is asked otherwise
				branch := *a
				branch.messages = append([]object(nil), a.messages[:len(a.messages)-2]...)
				branch.turn = 50
				check(branch.step())
				check(branch.step())
			case i%4 == 3 && turn == 1: // the same request again
				a.messages = a.messages[:len(a.messages)-2]
				a.turn--
				check(a.step())
			}
		}
	}
	t.Logf("%d requests", judged)
}

// TestOtherDialects: each dialect's prompts are judged on a real server.
func TestOtherDialects(t *testing.T) {
	b := newBench(t, cache.Facts{})
	long := syllables(3, 80)
	for _, c := range []struct {
		path          string
		first, second any
	}{
		{"/completion", object{"prompt": long, "n_predict": 4}, object{"prompt": long + syllables(4, 20), "n_predict": 4}},
		{"/v1/completions", object{"prompt": syllables(31, 80), "max_tokens": 4}, object{"prompt": syllables(31, 80) + syllables(4, 20), "max_tokens": 4}},
		{"/v1/messages", object{"system": syllables(32, 80), "max_tokens": 4, "messages": []object{{"role": "user", "content": "ba ce"}}},
			object{"system": []object{{"type": "text", "text": syllables(32, 80), "cache_control": object{"type": "ephemeral"}}}, "max_tokens": 4, "messages": []object{{"role": "user", "content": "ba ce"}, {"role": "assistant", "content": "di"}, {"role": "user", "content": "fo"}}}},
		{"/v1/responses", object{"instructions": syllables(33, 80), "max_output_tokens": 4, "input": "ba ce"}, object{"instructions": syllables(33, 80), "max_output_tokens": 4, "input": "ba ce di"}},
	} {
		first := b.post(c.path, "", c.first).row
		second := b.post(c.path, "", c.second).row
		t.Logf("%s: %s; %s", c.path, say(first), say(second))
		if first.CacheVerdict != cache.Cold {
			t.Errorf("%s, the first: %s", c.path, say(first))
		}
		hits(t, second)
	}
}
