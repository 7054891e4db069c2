package prompt

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// A second reader of prompts, slow and simple: it builds the whole document with encoding/json and hashes every chain value
// from the part's beginning.

type member struct {
	name  string
	value any
}

type object_ []member

func (o object_) get(name string) any {
	var found any
	for _, m := range o {
		if m.name == name {
			found = m.value
		}
	}
	return found
}

// document reads one value in the order of its members; numbers stay as they are written.
func document(d *json.Decoder) (any, bool) {
	t, err := d.Token()
	if err != nil {
		return nil, false
	}
	switch t {
	case json.Delim('{'):
		o := object_{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, false
			}
			v, ok := document(d)
			if !ok {
				return nil, false
			}
			o = append(o, member{name.(string), v})
		}
		_, err := d.Token()
		return o, err == nil
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, ok := document(d)
			if !ok {
				return nil, false
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err == nil
	}
	return t, true
}

func compact(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return `"` + v + `"`
	case json.Number:
		return v.String()
	case bool:
		if v {
			return "true"
		}
		return "false"
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, compact(e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case object_:
		var parts []string
		for _, m := range v {
			if m.name != "cache_control" {
				parts = append(parts, `"`+m.name+`":`+compact(m.value))
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	panic("unknown")
}

// plainText is a string itself, anything else in compact form.
func plainText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return compact(v)
}

type slowPart struct {
	kind    Kind
	role    Role
	message int
	text    string
}

type slowReader struct {
	parts   []slowPart
	message int
}

func (s *slowReader) add(kind Kind, role Role, text string) {
	if text != "" {
		s.parts = append(s.parts, slowPart{kind, role, s.message, text})
	}
}

func (s *slowReader) value(v any, kind Kind, role Role) {
	if v != nil {
		s.add(kind, role, plainText(v))
	}
}

func (s *slowReader) content(v any, role Role) {
	list, ok := v.([]any)
	if !ok {
		s.value(v, Text, role)
		return
	}
	for _, b := range list {
		o, ok := b.(object_)
		if !ok {
			s.value(b, Text, role)
			continue
		}
		kind, _ := o.get("type").(string)
		switch kind {
		case "text", "input_text", "output_text", "":
			if text := o.get("text"); text != nil {
				s.value(text, Text, role)
			} else {
				s.value(o, Other, role)
			}
		case "image_url", "image", "input_image":
			s.value(o, Image, role)
		case "input_audio", "audio", "audio_url":
			s.value(o, Audio, role)
		case "thinking", "redacted_thinking", "reasoning":
			if think := o.get("thinking"); think != nil {
				s.value(think, Reasoning, role)
			} else {
				s.value(o, Reasoning, role)
			}
		case "tool_use":
			s.value(o, ToolCall, role)
		case "tool_result":
			s.value(o, ToolResult, role)
		default:
			s.value(o, Other, role)
		}
	}
}

func slowRole(v any) Role {
	switch v {
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

func lastOf(o object_, names ...string) (found any) {
	for _, m := range o {
		for _, n := range names {
			if m.name == n {
				found = m.value
			}
		}
	}
	return found
}

func (s *slowReader) one(v any) {
	s.message++
	o, ok := v.(object_)
	if !ok {
		s.value(v, Text, User)
		return
	}
	kind := ""
	for _, m := range o {
		if text, ok := m.value.(string); ok && m.name == "type" {
			kind = text
		}
	}
	role := slowRole(o.get("role"))
	switch {
	case kind == "reasoning":
		c := o.get("content")
		if list, ok := c.([]any); c == nil || ok && len(list) == 0 || c == "" {
			c = o.get("summary")
		}
		s.value(c, Reasoning, Assistant)
		return
	case strings.HasSuffix(kind, "_call") && len(kind) > 5:
		s.value(v, ToolCall, Assistant)
		return
	case strings.HasSuffix(kind, "_output") && len(kind) > 7:
		s.value(v, ToolResult, ToolRole)
		return
	}
	s.value(lastOf(o, "reasoning_content", "reasoning", "thinking"), Reasoning, role)
	if role == ToolRole {
		text := ""
		if id := lastOf(o, "tool_call_id", "call_id"); id != nil {
			text = "id=" + plainText(id) + "\n"
		}
		if c := o.get("content"); c != nil {
			text += plainText(c)
		}
		s.add(ToolResult, ToolRole, text)
	} else {
		s.content(o.get("content"), role)
	}
	if list, ok := o.get("images").([]any); ok {
		for _, v := range list {
			s.value(v, Image, role)
		}
	}
	if list, ok := o.get("tool_calls").([]any); ok {
		for _, v := range list {
			s.value(v, ToolCall, role)
		}
	}
	s.value(o.get("function_call"), ToolCall, role)
}

// slowParse is Parse by the second reader; false: it cannot say.
func slowParse(key Key, b []byte) (*Fingerprint, bool) {
	if !utf8.Valid(b) || !json.Valid(b) || bytes.Contains(b, []byte(`\ud`)) || bytes.Contains(b, []byte(`\uD`)) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, ok := document(d)
	root, isObject := v.(object_)
	if !ok || !isObject {
		return nil, false
	}
	s := &slowReader{}
	text := ""
	for _, name := range settings {
		if v := root.get(name); v != nil {
			text += name + "=" + plainText(v) + "\n"
		}
	}
	s.add(Settings, NoRole, text)
	for _, name := range []string{"tools", "functions"} {
		if list, ok := root.get(name).([]any); ok {
			for _, tool := range list {
				s.value(tool, Tool, NoRole)
			}
		}
	}
	s.content(root.get("system"), System)
	s.content(root.get("instructions"), System)
	if list, ok := root.get("messages").([]any); ok {
		for _, m := range list {
			s.one(m)
		}
	}
	switch in := root.get("input").(type) {
	case string:
		s.message++
		s.value(in, Text, User)
	case []any:
		for _, m := range in {
			s.one(m)
		}
	}
	s.message = 0
	s.value(root.get("input_extra"), Text, NoRole)
	s.value(root.get("input_prefix"), Text, NoRole)
	s.value(root.get("prompt"), Text, NoRole)
	s.value(lastOf(root, "input_suffix", "suffix"), Text, NoRole)
	if list, ok := lastOf(root, "images", "multimodal_data").([]any); ok {
		for _, v := range list {
			s.value(v, Image, User)
		}
	}
	f := &Fingerprint{}
	for _, p := range s.parts {
		part := Part{Kind: p.kind, Role: p.role, Message: p.message, Len: len(p.text)}
		for n := Block; n < len(p.text); n += Block {
			part.Blocks = append(part.Blocks, slowChain(key, p, n, false))
		}
		part.Sum = slowChain(key, p, len(p.text), true)
		f.Parts = append(f.Parts, part)
		f.Bytes += int64(len(p.text))
	}
	return f, true
}

// slowChain is the chain value behind n bytes.
func slowChain(key Key, p slowPart, n int, last bool) uint64 {
	h := slowHash(key, little(uint64(p.kind)<<8|uint64(p.role)))
	at := 0
	for ; at+Block < n || !last && at+Block <= n; at += Block {
		h = slowHash(key, append(little(h), p.text[at:at+Block]...))
	}
	if !last {
		return h
	}
	h = slowHash(key, append(little(h), p.text[at:n]...))
	return slowHash(key, append(little(h), little(uint64(n))...))
}

func little(v uint64) (b []byte) {
	for range 8 {
		b = append(b, byte(v))
		v >>= 8
	}
	return b
}

// slowHash is SipHash-2-4 as its paper tells it, byte by byte.
func slowHash(key Key, m []byte) uint64 {
	v := [4]uint64{0x736f6d6570736575 ^ key.k0, 0x646f72616e646f6d ^ key.k1, 0x6c7967656e657261 ^ key.k0, 0x7465646279746573 ^ key.k1}
	left := func(x uint64, n uint) uint64 { return x<<n | x>>(64-n) }
	round := func(times int) {
		for range times {
			v[0], v[2] = v[0]+v[1], v[2]+v[3]
			v[1], v[3] = left(v[1], 13), left(v[3], 16)
			v[1], v[3] = v[1]^v[0], v[3]^v[2]
			v[0] = left(v[0], 32)
			v[2], v[0] = v[2]+v[1], v[0]+v[3]
			v[1], v[3] = left(v[1], 17), left(v[3], 21)
			v[1], v[3] = v[1]^v[2], v[3]^v[0]
			v[2] = left(v[2], 32)
		}
	}
	padded := append(bytes.Clone(m), make([]byte, 7-len(m)%8)...)
	padded = append(padded, byte(len(m)))
	for i := 0; i < len(padded); i += 8 {
		var w uint64
		for j := range 8 {
			w |= uint64(padded[i+j]) << (8 * j)
		}
		v[3] ^= w
		round(2)
		v[0] ^= w
	}
	v[2] ^= 0xff
	round(4)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}
