package replay_test

import (
	"fmt"
	"strings"
	"testing"

	"wattline/replay"
)

func TestDatasetRecords(t *testing.T) {
	for line, want := range map[string]string{
		`{"prompt": "hi", "max_tokens": 7}`:                   `7 [{"role":"user","content":"hi"}]`,
		`{"text": "hi", "output_length": 3}`:                  `3 [{"role":"user","content":"hi"}]`,
		`{"prompt": "hi", "output_tokens_count": 4, "id": 9}`: `4 [{"role":"user","content":"hi"}]`,
		`{"prompt": "hi", "max_tokens": null}`:                `0 [{"role":"user","content":"hi"}]`,
		`{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "ü"}]}], "max_completion_tokens": 5}`:           `5 [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "ü"}]}]`,
		`{"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}, {"from": "human", "value": "r"}]}`: `0 [{"role":"system","content":"s"},{"role":"user","content":"q"}]`,
	} {
		d, err := replay.ReadDataset("a/mine.jsonl", []byte("\ufeff\n"+line+"\r\n\n"))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := fmt.Sprintf("%d %s", d.Lines[0].OutputTokens, d.Lines[0].Messages); got != want || d.Lines[0].Line != 2 || d.Records != 1 || d.File != "mine.jsonl" || len(d.SHA256) != 64 {
			t.Errorf("%s: %s in %+v, want %s", line, got, d, want)
		}
	}
}

// TestBadDataset: every fault is one sentence with file and line and what to do.
func TestBadDataset(t *testing.T) {
	for line, want := range map[string]string{
		`{"prompt": "hi"`:                   "it is no JSON object (unexpected end of JSON input): write each request on one line",
		`"hi"`:                              "it is no JSON object",
		`null`:                              "it is no JSON object (null)",
		`[{"prompt": "hi"}]`:                "it begins a JSON array: write one object a line, for example with jq -c '.[]'",
		"{\"prompt\": \"\xff\"}":            "it is not UTF-8: convert the file",
		`{"question": "hi"}`:                `it has no prompt: add "prompt", "messages" or "conversations"`,
		`{"prompt": "hi", "messages": [1]}`: `it has both "prompt" and "messages": leave one of them out`,
		`{"prompt": ""}`:                    `"prompt" is not a text, or an empty one: write`,
		`{"prompt": ["a", "b"]}`:            `"prompt" is not a text, or an empty one`,
		`{"messages": []}`:                  `"messages" is not a list of messages: write`,
		`{"messages": [{"role": "user"}]}`:  `has no "role" or no "content" in message 1: add it`,
		`{"conversations": [{"from": "gpt", "value": "a"}]}`:   `"conversations" begins with a reply: put`,
		`{"conversations": [{"from": "human", "value": ""}]}`:  `has an empty turn or one from nobody known (turn 1, from "human")`,
		`{"conversations": [{"from": "robot", "value": "a"}]}`: `(turn 1, from "robot"): write`,
		`{"prompt": "hi", "max_tokens": -4}`:                   `"max_tokens" is -4: write a whole number of tokens above 0, or leave it out and give --output-tokens`,
		`{"prompt": "hi", "max_tokens": "ten"}`:                `"max_tokens" is "ten": write`,
		`{"prompt": "hi", "max_tokens": 1.5}`:                  `"max_tokens" is 1.5: write`,
	} {
		_, err := replay.ReadDataset("a/mine.jsonl", []byte(`{"prompt": "fine"}`+"\n\n"+line+"\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "a/mine.jsonl, line 3: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want line 3 and %q", line, err, want)
		}
	}
	if _, err := replay.ReadDataset("empty.jsonl", []byte("\n \n")); err == nil || !strings.Contains(err.Error(), "empty.jsonl holds no request: write one a line") {
		t.Errorf("an empty file: %v", err)
	}
}

// dataset reads three records and sizes their prompts.
func dataset(t *testing.T, path string, sizes ...int) *replay.Dataset {
	t.Helper()
	d, err := replay.ReadDataset(path, []byte(`{"prompt": "one", "max_tokens": 10}`+"\n"+`{"prompt": "two"}`+"\n"+`{"prompt": "three", "max_tokens": 30}`))
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		d.Lines[i].PromptTokens = n
	}
	return d
}

func TestDatasetPlan(t *testing.T) {
	compile := func(path string, context int, sizes ...int) (*replay.Plan, error) {
		s, err := replay.Spec{Dataset: path, OutputTokens: replay.Sizes{20}, Trials: 2}.Complete(nil)
		if err != nil {
			t.Fatal(err)
		}
		return replay.CompileDataset(s, dataset(t, path, sizes...), context)
	}
	p, err := compile("a/mine.jsonl", 0, 100, 200, 300)
	if err != nil {
		t.Fatal(err)
	}
	if want := (replay.Cell{Task: "mine.jsonl", PromptTokens: 200, OutputTokens: 20}); len(p.Cells) != 1 || p.Cells[0] != want || len(p.Order) != 2 || len(p.Dropped) != 0 || p.Dataset.LargestTokens != 330 {
		t.Errorf("%+v", p)
	}
	for i, want := range []string{"10 one", "20 two", "30 three", "10 one"} {
		r := replay.Request{}
		p.Dataset.Send(&r, i)
		tokens, text, _ := strings.Cut(want, " ")
		if fmt.Sprint(r.Cell.OutputTokens) != tokens || r.Cell.PromptTokens != 100*(i%3+1) || !strings.Contains(string(r.Messages), `"`+text+`"`) {
			t.Errorf("request %d: %+v %s", i, r.Cell, r.Messages)
		}
	}
	if q, err := compile("b/mine.jsonl", 0, 90, 210, 350); err != nil || q.Hash != p.Hash {
		t.Errorf("another folder and another tokenizer make another workload (%v)", err)
	}
	short, err := compile("a/mine.jsonl", 250, 100, 200, 300)
	if err != nil || short.Hash == p.Hash || len(short.Dropped) != 1 || !strings.Contains(short.Dropped[0].Reason, "1 of 3 requests are longer than the server's context of 250 tokens a slot (lines 3)") || short.Dataset.Records != 3 {
		t.Errorf("%v: %+v", err, short)
	}
	if _, err := compile("a/mine.jsonl", 100, 100, 200, 300); err == nil || !strings.Contains(err.Error(), "no request of mine.jsonl fits") {
		t.Errorf("nothing fits: %v", err)
	}
	for name, s := range map[string]replay.Spec{
		"leave out either": {Dataset: "x", Tasks: []string{"coding"}}, "one output size": {Dataset: "x", OutputTokens: replay.Sizes{1, 2}}, "cannot be warm": {Dataset: "x", Cache: replay.Warm},
	} {
		if _, err := s.Complete([]string{"coding"}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v, want %q", s, err, name)
		}
	}
}
