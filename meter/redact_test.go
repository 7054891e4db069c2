package meter

import (
	"strings"
	"testing"
)

// TestErrorsDoNotQuoteTheRequest: messages as servers write them. S3CRET stands for words of a prompt or a reply.
func TestErrorsDoNotQuoteTheRequest(t *testing.T) {
	for message, want := range map[string]string{
		// whole: fixed text and names of fields and models
		"the request exceeds the available context size, try increasing it": "",
		`"messages" is required`:                                                   "",
		"model 'qwen/qwen3-8b:q4' not found":                                       "",
		"Unsupported param: tools, can't be used without --jinja":                  "",
		"unsupported content[].type":                                               "",
		"This server does not support completions. Start it without `--reranking`": "",
		// cut: llama-server's JSON reader, template, reply parser
		`[json.exception.parse_error.101] parse error at line 1, column 30: syntax error while parsing value - invalid literal; last read: '"S3CRET'`: "[json.exception.parse_error.101] parse error at line 1, column 30: syntax error while parsing value - invalid literal; last read",
		"[json.exception.parse_error.101] parse error: invalid literal; last read: S3CRET":                                                            "[json.exception.parse_error.101] parse error: invalid literal; last read",
		"Failed to parse messages: bad role; messages = [\n {\"content\": \"S3CRET\"}]":                                                               "Failed to parse messages: bad role; messages",
		"Failed to parse input at pos 13: S3CRET":                                                                                                     "Failed to parse input at pos 13",
		"Invalid tool call <tool_call>S3CRET":                                                                                                         "Invalid tool call",
		"Jinja Exception: nope\nS3CRET is here":                                                                                                       "Jinja Exception: nope",
		`Unknown role "S3CRET and more"`:                                                                                                              "Unknown role",
		"the word 'S3CRET it is' is not allowed":                                                                                                      "the word",
		"unterminated `S3CRET":                                                                                                                        "unterminated",
		`{"detail":"S3CRET"}`:                                                                                                                         "",
		"1 validation error, input_value=S3CRET, input_type=str":                                                                                      "1 validation error, input_value",
		"[{'type': 'string_type', 'msg': 'no string', 'input': 'S3CRET'}]":                                                                            "",
		strings.Repeat("long ", 100) + "S3CRET":                                                                                                       strings.TrimSpace(strings.Repeat("long ", 40)),
		strings.Repeat("ä", 150) + "S3CRET":                                                                                                           strings.Repeat("ä", 100),
	} {
		switch {
		case strings.Contains(message, "S3CRET"):
			want = strings.TrimSpace(want + " " + withheld)
		default:
			want = message
		}
		var unset *Identify
		for _, id := range []*Identify{unset, {}, {Mode: IdentifyHash}} {
			if got := id.message(message); got != want {
				t.Errorf("%q gives\n%q, want\n%q", message, got, want)
			}
		}
		if got := (&Identify{Mode: IdentifyPlain}).message(message); got != message {
			t.Errorf("plain: %q gives %q", message, got)
		}
		if got := (&Identify{Mode: IdentifyNone}).message(message); got != "" {
			t.Errorf("none: %q gives %q", message, got)
		}
	}
}
