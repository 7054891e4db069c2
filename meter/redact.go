package meter

import (
	"regexp"
	"strings"
)

// maxError bounds a redacted message, in bytes.
const maxError = 200

// withheld stands where the rest of a message was left out.
const withheld = "[the rest is withheld: it may quote the request]"

var (
	// echoes are the words after which servers repeat what they were sent or wrote: nlohmann's JSON errors, llama-server's
	// template and reply parsers, pydantic's validation errors.
	echoes = regexp.MustCompile(`(?i)\b((last read|at pos(ition)? \d+|input|input_value|content|prompt|text|value|arguments?|body) ?[:=]|(messages|tools) ?=)`)
	// quotedName is a quoted identifier, such as a field's or a model's name: it is kept.
	quotedName = regexp.MustCompile(`^("[A-Za-z0-9_.:/@\[\]-]{1,64}"|'[A-Za-z0-9_.:/@\[\]-]{1,64}'|` + "`[A-Za-z0-9_.:/@\\[\\]-]{1,64}`)")
)

// redact returns the part of an upstream's error message that does not quote the request or the reply: its first line up
// to the first thing that could be a quotation, at most maxError bytes.
func redact(whole string) string {
	message := strings.TrimSpace(whole)
	end := len(message)
	if at := echoes.FindStringIndex(message); at != nil {
		end = at[1]
	}
	end = min(end, firstQuotation(message))
	if end == len(message) && end <= maxError {
		return whole
	}
	head := strings.TrimRight(strings.ToValidUTF8(message[:min(end, maxError)], ""), " :=,;")
	if head == "" {
		return withheld
	}
	return head + " " + withheld
}

// firstQuotation is where the first text in quotes that is no name, the first piece of JSON or markup, or the second line
// begins; the message's length where there is none.
func firstQuotation(message string) int {
	for i := 0; i < len(message); i++ {
		switch c := message[i]; c {
		case '\n', '\r', '{', '<':
			return i
		case '[': // "[json.exception.parse_error.101]" and "content[]" quote nothing
			if i+1 < len(message) && message[i+1] != ']' && !isLetter(message[i+1]) {
				return i
			}
		case '"', '\'', '`':
			if c == '\'' && i > 0 && isLetter(message[i-1]) { // can't
				continue
			}
			name := quotedName.FindString(message[i:])
			if name == "" {
				return i
			}
			i += len(name) - 1
		}
	}
	return len(message)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
