package logging

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode"
)

// TestHostileText: no name, path or error reaches a terminal raw through the log, and JSON keeps its bytes.
func TestHostileText(t *testing.T) {
	const hostile = "m\x1b]0;x\x07\r\n\u009b31m\u202e\u2066\u200b\ufeff\x7f\xff end"
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log := New(&out, format, slog.LevelInfo)
		log.With("path", hostile).Warn("it failed: "+hostile, "model", hostile, "error", strings.NewReader(hostile), hostile, 1)
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 {
			t.Errorf("%s: %d lines", format, n)
		}
		for _, r := range strings.TrimSuffix(out.String(), "\n") {
			if format == "text" && !unicode.IsPrint(r) || unicode.Is(unicode.C, r) && r < 0x20 {
				t.Errorf("%s: %q was written", format, r)
			}
		}
		if format == "json" {
			var line struct{ Model string }
			if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Model != strings.ToValidUTF8(hostile, "\ufffd") {
				t.Errorf("%v: %q", err, line.Model)
			}
		}
	}
}
