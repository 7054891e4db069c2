package prompt

import "strconv"

// Kind is what a part is.
type Kind uint8

// The kinds of parts.
const (
	Settings Kind = iota + 1 // what changes how the server's template renders the prompt
	Tool                     // one tool's definition
	Text
	Image
	Audio
	ToolCall
	ToolResult
	Reasoning
	Other
)

// String returns a kind's name.
func (k Kind) String() string {
	if k > Other {
		return "part"
	}
	return [...]string{"part", "settings", "tool", "text", "image", "audio", "tool call", "tool result", "reasoning", "part"}[k]
}

// Role is who says a part.
type Role uint8

// The roles.
const (
	NoRole Role = iota
	System      // also "developer"
	User
	Assistant
	ToolRole
	OtherRole
)

// String returns a role's name, "" for none.
func (r Role) String() string {
	if r > OtherRole {
		return ""
	}
	return [...]string{"", "system", "user", "assistant", "tool", "other"}[r]
}

// Block is the number of bytes that each hash of a chain adds.
const Block = 256

// Part is one part of a prompt.
type Part struct {
	Kind    Kind
	Role    Role
	Message int // which message it belongs to, from 1; 0: none
	Len     int // bytes of its text
	Sum     uint64
	Blocks  []uint64 // the chain behind each whole block but the last bytes

	at int // where its text begins in Prompt.Text
}

// same reports whether two parts are equal.
func (p *Part) same(o *Part) bool {
	return p.Sum == o.Sum && p.Len == o.Len && p.Kind == o.Kind && p.Role == o.Role
}

// Fingerprint is what is kept of a prompt.
type Fingerprint struct {
	Parts []Part
	Bytes int64 // of all parts

	Previous bool // previous_response_id: earlier messages are with the server
	Several  bool // several prompts, or several completions of one
	Broken   bool // the body is no JSON object with a prompt
	Cut      bool // read from a store, which had no room for the last parts
}

// Prompt is a fingerprint with the text that it was made of.
type Prompt struct {
	Fingerprint
	Text []byte // of all parts, one behind the other: strings with their escapes resolved, other values without white space

	Unread string // why a body with a prompt was given up; it is Broken then
}

// text returns a part's text, nil if it is not there.
func (p *Prompt) text(i int) []byte {
	q := &p.Parts[i]
	if len(p.Text) < q.at+q.Len {
		return nil
	}
	return p.Text[q.at : q.at+q.Len]
}

// Name describes the i-th part for people: "system", "tool 3", "message 5 (user, text)".
func (f *Fingerprint) Name(i int) string {
	if i < 0 || i >= len(f.Parts) {
		return ""
	}
	p := &f.Parts[i]
	switch {
	case p.Kind == Settings:
		return "settings"
	case p.Kind == Tool:
		n := 1
		for j := range i {
			if f.Parts[j].Kind == Tool {
				n++
			}
		}
		return "tool " + strconv.Itoa(n)
	case p.Role == System:
		return "system"
	case p.Message == 0:
		return "prompt"
	}
	return "message " + strconv.Itoa(p.Message) + " (" + p.Role.String() + ", " + p.Kind.String() + ")"
}

// Messages is how many messages the prompt has.
func (f *Fingerprint) Messages() (n int) {
	for i := range f.Parts {
		n = max(n, f.Parts[i].Message)
	}
	return n
}
