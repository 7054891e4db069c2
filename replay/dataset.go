package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Dataset is a user's own file of requests, one JSON object a line. Its records are sent in the order of the file,
// from the beginning in each trial, and again from the beginning after the last.
type Dataset struct {
	File    string `json:"file"` // its name without the folder
	SHA256  string `json:"sha256"`
	Records int    `json:"records"` // in the file
	// LargestTokens is the largest sum of prompt and reply among the records that fit the server's context.
	LargestTokens int `json:"largest_tokens"`

	Lines   []Record `json:"-"` // those that are sent
	tooLong []string // numbers of the lines that do not fit the context
}

// Record is one request of a dataset.
type Record struct {
	Line         int             // in the file, from 1
	Messages     json.RawMessage // as they are sent
	PromptTokens int             // counted by the server; 0: not yet
	OutputTokens int             // 0: the file does not say
}

// ReadDataset reads a dataset. A line holds the prompt in one of three forms, and may limit the reply:
//
//	{"prompt": "...", "max_tokens": 256}           "text" is accepted for "prompt" (AIPerf)
//	{"messages": [{"role": "user", "content": "..."}], "max_tokens": 256}
//	{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}    (ShareGPT)
//
// Of a conversation, the turns before the first reply are sent. For max_tokens also max_completion_tokens (OpenAI),
// output_tokens_count (GuideLLM) and output_length (AIPerf) are read. Other keys are ignored, and so are blank lines.
// An error names the file, the line and what to do.
func ReadDataset(path string, text []byte) (*Dataset, error) {
	sum := sha256.Sum256(text)
	d := &Dataset{File: filepath.Base(path), SHA256: hex.EncodeToString(sum[:])}
	n := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\ufeff"))) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		r, err := readRecord(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		r.Line = n
		d.Lines = append(d.Lines, *r)
	}
	if d.Records = len(d.Lines); d.Records == 0 {
		return nil, fmt.Errorf(`%s holds no request: write one a line, like {"prompt": "...", "max_tokens": 256}`, path)
	}
	if d.Records > maxRequests {
		return nil, fmt.Errorf("%s holds %d requests, and %d are the limit: split it", path, d.Records, maxRequests)
	}
	return d, nil
}

// promptKeys are the keys of the prompt, and what makes the messages of their values.
//
//nolint:gochecknoglobals // a constant table
var promptKeys = []struct {
	name     string
	messages func(json.RawMessage) (json.RawMessage, error)
}{
	{"prompt", fromText}, {"text", fromText}, {"messages", fromMessages}, {"conversations", fromConversation},
}

func readRecord(line []byte) (*Record, error) {
	var object map[string]json.RawMessage
	switch err := json.Unmarshal(line, &object); {
	case !utf8.Valid(line):
		return nil, errors.New("it is not UTF-8: convert the file, for example with iconv -t UTF-8")
	case line[0] == '[':
		return nil, errors.New("it begins a JSON array: write one object a line, for example with jq -c '.[]'")
	case err != nil || object == nil:
		return nil, fmt.Errorf(`it is no JSON object (%s): write each request on one line, like {"prompt": "...", "max_tokens": 256}`, jsonError(err))
	}
	r := &Record{}
	used := ""
	for _, k := range promptKeys {
		value, ok := object[k.name]
		if !ok || string(value) == "null" {
			continue
		}
		if used != "" {
			return nil, fmt.Errorf("it has both %q and %q: leave one of them out", used, k.name)
		}
		used = k.name
		var err error
		if r.Messages, err = k.messages(value); err != nil {
			return nil, fmt.Errorf("%q %w", k.name, err)
		}
	}
	if used == "" {
		return nil, errors.New(`it has no prompt: add "prompt", "messages" or "conversations"`)
	}
	var err error
	r.OutputTokens, err = outputTokensOf(object)
	return r, err
}

// jsonError is the reason in one line; nil is a value that is valid JSON but no object.
func jsonError(err error) string {
	if err == nil {
		return "null"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// outputTokensOf reads the length of the reply, 0 if the record has none.
func outputTokensOf(object map[string]json.RawMessage) (int, error) {
	for _, name := range []string{"max_tokens", "max_completion_tokens", "output_tokens_count", "output_length"} {
		value, ok := object[name]
		if !ok || string(value) == "null" {
			continue
		}
		var n int
		if err := json.Unmarshal(value, &n); err != nil || n < 1 || n > maxSize {
			return 0, fmt.Errorf("%q is %.40s: write a whole number of tokens above 0, or leave it out and give --output-tokens", name, value)
		}
		return n, nil
	}
	return 0, nil
}

// chatMessage is one message of a request that is made from a text.
type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func fromText(value json.RawMessage) (json.RawMessage, error) {
	var text string
	if json.Unmarshal(value, &text) != nil || text == "" {
		return nil, errors.New("is not a text, or an empty one: write the prompt between quotes")
	}
	return json.Marshal([]chatMessage{{"user", text}})
}

// fromMessages keeps the messages as they are: their content may be more than text.
func fromMessages(value json.RawMessage) (json.RawMessage, error) {
	var list []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(value, &list) != nil || len(list) == 0 {
		return nil, errors.New(`is not a list of messages: write [{"role": "user", "content": "..."}]`)
	}
	for i, m := range list {
		if m.Role == "" || len(m.Content) == 0 {
			return nil, fmt.Errorf(`has no "role" or no "content" in message %d: add it`, i+1)
		}
	}
	return value, nil
}

func fromConversation(value json.RawMessage) (json.RawMessage, error) {
	var turns []struct {
		From  string `json:"from"`
		Value string `json:"value"`
	}
	if json.Unmarshal(value, &turns) != nil || len(turns) == 0 {
		return nil, errors.New(`is not a list of turns: write [{"from": "human", "value": "..."}]`)
	}
	roles := map[string]string{"human": "user", "user": "user", "system": "system", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant"}
	var out []chatMessage
	for i, t := range turns {
		role, ok := roles[t.From]
		if !ok || t.Value == "" {
			return nil, fmt.Errorf(`has an empty turn or one from nobody known (turn %d, from %q): write "human", "gpt" or "system" and a text`, i+1, t.From)
		}
		if role == "assistant" {
			break
		}
		out = append(out, chatMessage{role, t.Value})
	}
	if !slices.ContainsFunc(out, func(m chatMessage) bool { return m.Role == "user" }) {
		return nil, errors.New("begins with a reply: put a turn of the human in front, or leave the line out")
	}
	return json.Marshal(out)
}

// Fit leaves out the records that do not fit a context (0: unknown) and returns how many remain. Records without a
// length of the reply get output tokens.
func (d *Dataset) Fit(context, output int) int {
	d.Lines = slices.DeleteFunc(d.Lines, func(r Record) bool {
		tooLong := context > 0 && r.PromptTokens+cmpOr(r.OutputTokens, output) > context
		if tooLong {
			d.tooLong = append(d.tooLong, strconv.Itoa(r.Line))
		}
		return tooLong
	})
	d.LargestTokens = 0
	for i := range d.Lines {
		r := &d.Lines[i]
		r.OutputTokens = cmpOr(r.OutputTokens, output)
		d.LargestTokens = max(d.LargestTokens, r.PromptTokens+r.OutputTokens)
	}
	return len(d.Lines)
}

// CompileDataset lays out a completed Spec that sends a dataset with counted prompts. Records that do not
// fit the server's context (0: unknown) are in Plan.Dropped; if none fits, that is an error. The plan has one cell,
// with the means of the records' sizes.
func CompileDataset(s Spec, d *Dataset, context int) (*Plan, error) {
	p := &Plan{Spec: s, Corpus: d.SHA256, Dataset: d}
	p.Spec.Dataset = d.File // the same file in another folder is the same workload
	n := d.Fit(context, s.OutputTokens[0])
	if n == 0 {
		return nil, fmt.Errorf("no request of %s fits the server's context of %d tokens a slot: shorten them or start the server with a larger --ctx-size", d.File, context)
	}
	cell := Cell{Task: d.File}
	for _, r := range d.Lines {
		cell.PromptTokens += r.PromptTokens
		cell.OutputTokens += r.OutputTokens
	}
	cell.PromptTokens, cell.OutputTokens = max(1, cell.PromptTokens/n), cell.OutputTokens/n
	p.Cells = []Cell{cell}
	if left := d.tooLong; len(left) > 0 {
		const named = 20
		lines := strings.Join(left[:min(named, len(left))], ", ")
		if len(left) > named {
			lines += ", ..."
		}
		p.Dropped = []SkippedCell{{cell, fmt.Sprintf("%d of %d requests are longer than the server's context of %d tokens a slot (lines %s)", len(left), d.Records, context, lines)}}
	}
	return p, p.finishDataset()
}

func (p *Plan) finishDataset() error {
	d := p.Dataset
	return p.finish(strings.Join(append(slices.Clone(d.tooLong), d.SHA256), " "), []Cell{{Task: d.File}})
}

// Send fills in the next request of a dataset: its messages and its own sizes.
func (d *Dataset) Send(r *Request, index int) {
	rec := &d.Lines[index%len(d.Lines)]
	r.Messages, r.Cell.PromptTokens, r.Cell.OutputTokens = rec.Messages, rec.PromptTokens, rec.OutputTokens
}

// Shift corrects the counted size of every prompt by n tokens.
func (d *Dataset) Shift(n int) {
	for i := range d.Lines {
		d.Lines[i].PromptTokens += n
	}
}

// Nearest is the index of the record with the prompt nearest to a size.
func (d *Dataset) Nearest(promptTokens int) int {
	best := 0
	for i := range d.Lines {
		if abs(d.Lines[i].PromptTokens-promptTokens) < abs(d.Lines[best].PromptTokens-promptTokens) {
			best = i
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// PromptSizes are the sizes of all prompts of the plan.
func (p *Plan) PromptSizes() []int {
	var out []int
	if p.Dataset != nil {
		for i := range p.Dataset.Lines {
			out = append(out, p.Dataset.Lines[i].PromptTokens)
		}
		return out
	}
	for _, c := range p.Cells {
		out = append(out, c.PromptTokens)
	}
	return out
}
