package prompt

import (
	"bytes"
	"fmt"
	"strconv"
)

// settings are the members of a body that change how the server's template renders it.
//
//nolint:gochecknoglobals // a constant table
var settings = [...]string{"chat_template", "chat_template_kwargs", "reasoning_effort", "reasoning", "tool_choice", "thinking"}

// body has the members of a request's body that make its prompt.
type body struct {
	settings                          [len(settings)][]byte
	tools, functions                  []byte
	system, instructions              []byte
	messages, input, prompt           []byte
	prefix, suffix, extra, multimodal []byte
	previous, n, nCmpl                []byte
}

// Parse makes the fingerprint of a request's body. The text is appended to the given memory, which the prompt then owns.
// The members may stand in any order; those of all dialects are known, and the names do not collide.
func Parse(key Key, b, memory []byte) *Prompt {
	w := &writer{key: key, out: &Prompt{Text: memory[:0]}}
	b = trim(bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF")))
	if !isObject(b) || containerEnd(b) < 0 {
		w.out.Broken = true
		return w.out
	}
	var in body
	for name, v := range object(b) {
		in.take(plainName(name), v)
	}
	w.body(&in)
	if w.full() {
		return &Prompt{Fingerprint: Fingerprint{Broken: true}, Unread: fmt.Sprintf("it has more than %d parts", maxParts-1)}
	}
	w.out.Bytes = int64(len(w.out.Text))
	w.out.Broken = len(w.out.Parts) == 0
	return w.out
}

// take notes a member; of two with one name the last counts, as in llama-server.
func (in *body) take(name, v []byte) {
	for i, s := range settings {
		if string(name) == s {
			in.settings[i] = v
		}
	}
	switch string(name) {
	case "tools":
		in.tools = v
	case "functions":
		in.functions = v
	case "system":
		in.system = v
	case "instructions":
		in.instructions = v
	case "messages":
		in.messages = v
	case "input":
		in.input = v
	case "prompt":
		in.prompt = v
	case "input_prefix":
		in.prefix = v
	case "input_suffix", "suffix":
		in.suffix = v
	case "input_extra":
		in.extra = v
	case "images", "multimodal_data":
		in.multimodal = v
	case "previous_response_id":
		in.previous = v
	case "n":
		in.n = v
	case "n_cmpl":
		in.nCmpl = v
	}
}

// several reports a number of completions above one.
func several(v []byte) bool {
	n, err := strconv.ParseFloat(string(bytes.TrimSpace(v[:min(len(v), 32)])), 64)
	return err == nil && n > 1
}

// maxParts bounds the parts of a prompt: one of a few bytes takes 72.
const maxParts = 16 << 10

// writer appends parts to a prompt.
type writer struct {
	key     Key
	out     *Prompt
	blocks  []uint64
	message int
}

// full reports whether the prompt has too many parts to be of use.
func (w *writer) full() bool { return len(w.out.Parts) >= maxParts }

// begin returns where the next part's text begins.
func (w *writer) begin() int { return len(w.out.Text) }

// end makes what was written since begin a part. Empty parts leave no trace in a prompt.
func (w *writer) end(at int, kind Kind, role Role) {
	text := w.out.Text[at:]
	if len(text) == 0 || w.full() {
		return
	}
	from := len(w.blocks)
	var sum uint64
	sum, w.blocks = w.key.chain(kind, role, text, w.blocks)
	p := Part{Kind: kind, Role: role, Message: w.message, Len: len(text), Sum: sum, at: at}
	if n := len(w.blocks); n > from {
		p.Blocks = w.blocks[from:n:n]
	}
	w.out.Parts = append(w.out.Parts, p)
}

// value writes one part of a value: a string's text, anything else in canonical form.
func (w *writer) value(v []byte, kind Kind, role Role) {
	if isNull(v) || w.full() {
		return
	}
	at := w.begin()
	w.append(v)
	w.end(at, kind, role)
}

func (w *writer) append(v []byte) {
	if isString(v) {
		w.out.Text = unescape(w.out.Text, v[1:len(v)-1])
	} else {
		w.out.Text = canonical(w.out.Text, v, 0)
	}
}

// member writes a member with its name.
func (w *writer) member(name string, v []byte) {
	w.out.Text = append(append(w.out.Text, name...), '=')
	w.append(v)
	w.out.Text = append(w.out.Text, '\n')
}

func (w *writer) body(in *body) {
	w.out.Previous = !isNull(in.previous)
	w.out.Several = several(in.n) || several(in.nCmpl)
	at := w.begin()
	for i, v := range in.settings {
		if !isNull(v) {
			w.member(settings[i], v)
		}
	}
	w.end(at, Settings, NoRole)
	for _, list := range [][]byte{in.tools, in.functions} {
		for tool := range array(list) {
			w.value(tool, Tool, NoRole)
		}
	}
	w.content(in.system, System)
	w.content(in.instructions, System)
	for m := range array(in.messages) {
		w.one(m)
	}
	if isString(in.input) {
		w.message++
		w.value(in.input, Text, User)
	}
	for item := range array(in.input) {
		w.one(item)
	}
	w.prompts(in)
	for m := range array(in.multimodal) {
		w.value(m, Image, User)
	}
}

// prompts writes the prompt of a completion or an infill.
func (w *writer) prompts(in *body) {
	w.message = 0
	w.value(in.extra, Text, NoRole)
	w.value(in.prefix, Text, NoRole)
	if !isArray(in.prompt) {
		w.value(in.prompt, Text, NoRole)
	} else {
		texts, numbers := 0, 0
		for v := range array(in.prompt) {
			if isString(v) || isArray(v) || isObject(v) {
				texts++
			} else {
				numbers++
			}
		}
		w.out.Several = w.out.Several || texts > 1 && numbers == 0
		w.value(in.prompt, Text, NoRole)
	}
	w.value(in.suffix, Text, NoRole)
}

func roleOf(v []byte) Role {
	if !isString(v) {
		return OtherRole
	}
	switch string(plainName(v[1 : len(v)-1])) {
	case "system", "developer":
		return System
	case "user":
		return User
	case "assistant":
		return Assistant
	case "tool", "function":
		return ToolRole
	}
	return OtherRole
}

// message has the members of one message, or of one item of a Responses input.
type message struct {
	role                         Role
	kind                         string // of an item
	content, reasoning, images   []byte
	calls, call, callID, summary []byte
}

// one writes a message: reasoning first, then the content, then calls of tools, as templates do.
func (w *writer) one(v []byte) {
	w.message++
	if w.full() {
		return
	}
	if !isObject(v) {
		w.value(v, Text, User)
		return
	}
	m := message{role: OtherRole}
	for name, v := range object(v) {
		switch string(plainName(name)) {
		case "role":
			m.role = roleOf(v)
		case "type":
			if isString(v) {
				m.kind = string(plainName(v[1 : len(v)-1]))
			}
		case "content":
			m.content = v
		case "reasoning_content", "reasoning", "thinking":
			m.reasoning = v
		case "images":
			m.images = v
		case "tool_calls":
			m.calls = v
		case "function_call":
			m.call = v
		case "tool_call_id", "call_id":
			m.callID = v
		case "summary":
			m.summary = v
		}
	}
	switch {
	case m.kind == "reasoning":
		w.value(firstOf(m.content, m.summary), Reasoning, Assistant)
		return
	case len(m.kind) > 5 && m.kind[len(m.kind)-5:] == "_call":
		w.value(v, ToolCall, Assistant)
		return
	case len(m.kind) > 7 && m.kind[len(m.kind)-7:] == "_output":
		w.value(v, ToolResult, ToolRole)
		return
	}
	w.value(m.reasoning, Reasoning, m.role)
	if m.role == ToolRole {
		at := w.begin()
		if !isNull(m.callID) {
			w.member("id", m.callID)
		}
		if !isNull(m.content) {
			w.append(m.content)
		}
		w.end(at, ToolResult, ToolRole)
	} else {
		w.content(m.content, m.role)
	}
	for v := range array(m.images) {
		w.value(v, Image, m.role)
	}
	for v := range array(m.calls) {
		w.value(v, ToolCall, m.role)
	}
	w.value(m.call, ToolCall, m.role)
}

func firstOf(a, b []byte) []byte {
	if !isNull(a) && len(a) > 2 { // "[]" and "" have nothing in them
		return a
	}
	return b
}

// content writes a message's content: a string, or a list of blocks.
func (w *writer) content(v []byte, role Role) {
	if !isArray(v) {
		w.value(v, Text, role)
		return
	}
	for b := range array(v) {
		w.block(b, role)
	}
}

// block writes one block of a content, by the names of all dialects.
func (w *writer) block(v []byte, role Role) {
	if !isObject(v) {
		w.value(v, Text, role)
		return
	}
	var kind string
	var text, thinking []byte
	for name, v := range object(v) {
		switch string(plainName(name)) {
		case "type":
			if isString(v) {
				kind = string(plainName(v[1 : len(v)-1]))
			}
		case "text":
			text = v
		case "thinking":
			thinking = v
		}
	}
	switch kind {
	case "text", "input_text", "output_text", "":
		if !isNull(text) {
			w.value(text, Text, role)
			return
		}
		w.value(v, Other, role)
	case "image_url", "image", "input_image":
		w.value(v, Image, role)
	case "input_audio", "audio", "audio_url":
		w.value(v, Audio, role)
	case "thinking", "redacted_thinking", "reasoning":
		if !isNull(thinking) {
			v = thinking // without its signature, which templates leave out
		}
		w.value(v, Reasoning, role)
	case "tool_use":
		w.value(v, ToolCall, role)
	case "tool_result":
		w.value(v, ToolResult, role)
	default:
		w.value(v, Other, role)
	}
}
