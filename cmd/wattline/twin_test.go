package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wattline/meter"
	"wattline/proxy/llamatest"
	"wattline/replay"
	"wattline/replay/archive"
	"wattline/replay/trace"
	"wattline/replay/twin"
	"wattline/sink"
)

// message is a message of a chat.
type message = map[string]any

// turn sends a streamed chat through wattline and returns the model's message, as an agent takes it up, and the row's id.
func (w *wattlineProcess) turn(t *testing.T, body map[string]any) (m message, id string) {
	t.Helper()
	got := w.post(t.Context(), "/v1/chat/completions", body)
	if got.err != nil || got.status != http.StatusOK {
		t.Fatalf("%d %v: %s", got.status, got.err, got.body)
	}
	var content, reasoning strings.Builder
	for lines := bufio.NewScanner(bytes.NewReader(got.body)); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var event struct {
			Choices []struct {
				Delta struct {
					Content   string `json:"content"`
					Reasoning string `json:"reasoning_content"`
				} `json:"delta"`
			} `json:"choices"`
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		for _, c := range event.Choices {
			content.WriteString(c.Delta.Content)
			reasoning.WriteString(c.Delta.Reasoning)
		}
	}
	m = message{"role": "assistant", "content": content.String()}
	if reasoning.Len() > 0 {
		m["reasoning_content"] = reasoning.String()
	}
	return m, got.id
}

// syllables are words that the small model's vocabulary has.
func syllables(seed, n int) string {
	var b strings.Builder
	for i := range n {
		v := seed*7919 + i*104729
		b.WriteByte("bcdfghjklmnprstvwz"[v%18])
		b.WriteByte("aeiou"[v/18%5])
		b.WriteByte("bcdfghjklmnprstvwz"[v/90%18])
		b.WriteByte("aeiou"[v/1620%5])
		b.WriteByte(' ')
	}
	return b.String()
}

// TestTwinOfAgent: an agent with tools and reasoning on a real server, recorded through wattline, exported, and replayed twice.
// Each turn reuses as many tokens as in the recording, within one block, both times: the second run finds nothing of the first
// in the cache. Compare judges the two only if the twin was proven.
func TestTwinOfAgent(t *testing.T) {
	t.Parallel()
	twinOfAgent(t, 12)
}

func TestTwinOfAgentSoak(t *testing.T) {
	if os.Getenv("WATTLINE_SOAK") == "" {
		t.Skip("40 turns; make soak runs them")
	}
	twinOfAgent(t, 40)
}

func twinOfAgent(t *testing.T, turns int) {
	t.Helper()
	template, err := filepath.Abs(filepath.Join("testdata", "reasoning.jinja"))
	if err != nil {
		t.Fatal(err)
	}
	srv := llamatest.Start(t, "-c", "32768", "-np", "2", "--jinja", "--chat-template-file", template, "--reasoning-format", "deepseek")
	w := serve(t, srv.URL())
	var tools []message
	for i, name := range []string{"read_file", "run_tests", "search"} {
		tools = append(tools, message{"type": "function", "function": message{"name": name, "description": syllables(i, 60), "parameters": message{
			"type": "object", "required": []string{"path"}, "properties": message{"path": message{"type": "string", "enum": []string{"main.go", "main_test.go", "README.md"}}},
		}}})
	}
	messages := []message{{"role": "system", "content": "You are an agent.\n" + syllables(7, 150)}, {"role": "user", "content": syllables(8, 40)}}
	var recorded []*meter.Record
	thoughts := 0
	for turn := range turns {
		thinks := turn%2 == 0
		m, id := w.turn(t, map[string]any{
			"messages": messages, "tools": tools, "tool_choice": "none", "chat_template_kwargs": message{"enable_thinking": thinks}, "max_tokens": 12 + turn*7%24,
			"ignore_eos": true, "temperature": 0, "seed": turn, "stream": true, "stream_options": message{"include_usage": true},
		})
		rec := w.row(t, id)
		recorded = append(recorded, rec)
		if thinks { // a model of random weights calls no tool by itself
			if m["reasoning_content"] != nil {
				thoughts++
			}
			if turn%4 == 2 { // as most templates do
				delete(m, "reasoning_content")
			}
			call := fmt.Sprint("call_", turn)
			m["tool_calls"] = []message{{"id": call, "type": "function", "function": message{"name": "read_file", "arguments": `{"path": "main.go"}`}}}
			messages = append(messages, m, message{"role": "tool", "tool_call_id": call, "content": syllables(turn+100, 30+turn*37%200)})
		} else {
			messages = append(messages, m, message{"role": "user", "content": syllables(turn+200, 10+turn*13%40)})
		}
		t.Logf("turn %d: %v in, %v reused, %v out, %s", turn+1, rec.PromptTokens.V, rec.CachedTokens.V, rec.OutputTokens.V, rec.CacheVerdict)
	}
	if thoughts != turns/2 {
		t.Fatalf("%d turns with reasoning", thoughts)
	}
	file := filepath.Join(t.TempDir(), "agent.jsonl.gz")
	out, _ := output(t, 0, "trace", "export", "--store", w.store, "--since", "1h", "--out", file)
	t.Log(out)
	tr, err := trace.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.Records) != len(recorded) {
		t.Fatalf("%d records of %d turns", len(tr.Records), len(recorded))
	}
	var dirs []string
	var runs []*replay.Run
	for n := range 2 {
		dir := filepath.Join(t.TempDir(), fmt.Sprint("run", n))
		dirs = append(dirs, dir)
		got := wattline(t, "replay", "--trace", file, "--endpoint", w.url, "--out", dir)
		t.Logf("%s\n%s", got.stdout, got.stderr)
		a, err := archive.Read(dir)
		if err != nil {
			t.Fatalf("exit %d: %v", got.code, err)
		}
		runs = append(runs, a.Run)
		seen := 0
		for _, e := range a.Run.Exchanges {
			if e.InLine == nil {
				t.Fatalf("run %d: record %d has no row", n+1, e.Index+1)
			}
			seen++
			was, is := recorded[e.Index], e.InLine
			if is.PromptTokens != was.PromptTokens || is.OutputTokens != was.OutputTokens {
				t.Errorf("run %d, turn %d: %d tokens in and %d out, recorded were %d and %d", n+1, e.Index+1, is.PromptTokens.V, is.OutputTokens.V, was.PromptTokens.V, was.OutputTokens.V)
			}
			if away := is.CachedTokens.V - was.CachedTokens.V; away > int64(tr.BlockTokens) || -away > int64(tr.BlockTokens) {
				t.Errorf("run %d, turn %d: %d tokens reused, recorded were %d, a block has %d", n+1, e.Index+1, is.CachedTokens.V, was.CachedTokens.V, tr.BlockTokens)
			}
		}
		if seen != len(recorded) {
			t.Errorf("run %d has %d requests", n+1, seen)
		}
	}
	proof, err := twin.ReadProof(dirs[0], runs[0])
	if err != nil || proof == nil || proof.Cached.Within != turns || proof.Trace != tr.SHA256 {
		t.Fatalf("the proof of run 1: %+v, %v", proof, err)
	}
	if why := strings.Join(append(proof.Why, proof.Notes...), "\n"); strings.Contains(why, "not as it was recorded") || strings.Contains(why, "flags") { // a build that is no plain number is not told
		t.Errorf("the server is the recorded one: %s", why)
	}
	again, err := twin.ReadProof(dirs[1], runs[1])
	if err != nil {
		t.Fatal(err)
	}
	got := wattline(t, "compare", dirs[0], dirs[1])
	if refused := strings.Contains(got.stdout, "no verdict: the twin failed its A/A test"); refused == (proof.Passed || again.Passed) {
		t.Errorf("the runs' proofs: %v and %v; compare: exit %d\n%s%s", proof.Passed, again.Passed, got.code, got.stdout, got.stderr)
	}
}

// TestTraceExport: bad input gets a sentence, and a span without rows writes nothing.
func TestTraceExport(t *testing.T) {
	at := time.Now().Add(-time.Hour)
	row := measured("0199-aaaa", at)
	db := storeOf(t, sink.Rows{Requests: []*meter.Record{row}})
	file := filepath.Join(t.TempDir(), "t.jsonl")
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "long ago", []string{"--since", "long ago"}},
		{exitUsage, "long ago", []string{"--until", "long ago"}},
		{exitUsage, "ends before it begins", []string{"--since", "1d", "--until", "2d"}},
		{exitFailed, "no row of this time can be replayed: there is none", []string{"--since", "5m"}},
		{exitFailed, "no row of this time can be replayed: of another server or model: 1", []string{"--model", "none"}},
		{exitFailed, "there is no store", []string{"--store", file + ".db"}},
		{exitFailed, "cannot be written", []string{"--out", filepath.Join(file, "deeper")}},
	} {
		_, errs := output(t, c.code, append([]string{"trace", "export", "--store", db, "--out", file}, c.args...)...)
		if !strings.Contains(errs, c.want) {
			t.Errorf("%v: %s", c.args, errs)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%v wrote a file", c.args)
		}
	}
	out, _ := output(t, 0, "trace", "export", "--store", db, "--out", file)
	if !strings.Contains(out, "1 requests of 1 sessions in 0s, 0 with blocks") {
		t.Error(out)
	}
	if tr, err := trace.Read(file); err != nil || len(tr.Records) != 1 || tr.Records[0].Observed.GPUUj != row.GPUUj {
		t.Errorf("%+v: %v", tr, err)
	}
}
