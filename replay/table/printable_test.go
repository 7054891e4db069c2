package table

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// hostile is what a name may do to a terminal: each with what is shown of it.
var hostile = map[string]string{
	"plain gpt-4 (é, 模型, 🦙)": "plain gpt-4 (é, 模型, 🦙)",
	"a\x1b]0;title\x07b":     `a\x1b]0;title\ab`,
	"\x1b[2J\x1b[31m":        `\x1b[2J\x1b[31m`,
	"over\rwritten\n\t\b\v":  `over\rwritten\n\t\b\v`,
	"\u009b31m\u0085":        `\u009b31m\u0085`, // C1: a terminal may take U+009B for ESC [
	"\x9b31m":                `\x9b31m`,
	"a\u202egpj.exe\u2066":   `a\u202egpj.exe\u2066`,
	"\u200b\u200e\u061c":     `\u200b\u200e\u061c`,
	"\ufeff\u2028\u2029\x7f": `\ufeff\u2028\u2029\x7f`,
	"\U000e0041":             `\U000e0041`,
	"\xff\xfe\x00":           `\xff\xfe\x00`,
	"real \ufffd":            "real \ufffd",
}

func TestPrintable(t *testing.T) {
	for s, want := range hostile {
		if got := Printable(s); got != want {
			t.Errorf("Printable(%q) = %q, want %q", s, got, want)
		}
	}
}

// TestTablesEscape: no cell and no heading reaches a terminal raw, and text keeps its lines.
func TestTablesEscape(t *testing.T) {
	var b strings.Builder
	all := ""
	for s := range hostile {
		all += s
	}
	out := New(&b, "model"+all, "n")
	out.Row(all, 1)
	out.Row(error(nil), 2)
	out.Render()
	if n := strings.Count(b.String(), "\n"); n != 3 {
		t.Errorf("%d lines, want 3:\n%q", n, b.String())
	}
	_, err := Plain(&b).Write([]byte("a line\n\tof " + all + "\n"))
	if err != nil || !strings.Contains(b.String(), "a line\n\tof ") {
		t.Errorf("%v: %q", err, b.String())
	}
	for _, r := range b.String() {
		if r != '\n' && r != '\t' && Printable(string(r)) != string(r) {
			t.Errorf("%q was printed", r)
		}
	}
	if !utf8.ValidString(b.String()) {
		t.Error("what was printed is not UTF-8")
	}
}
