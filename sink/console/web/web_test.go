package web

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// What Inline writes holds every module that is imported, and imports nothing by a path.
func TestInline(t *testing.T) {
	text, err := Inline("lib/runcharts.js")
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Imports map[string]string }
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	from := regexp.MustCompile(`\b(?:from|import)\s*"([^"]+)"`)
	for name, url := range m.Imports {
		script, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(url, "data:text/javascript;base64,"))
		if err != nil || len(script) == 0 {
			t.Errorf("%s: %v, %d bytes", name, err, len(script))
		}
		for _, i := range from.FindAllStringSubmatch(string(script), -1) {
			if m.Imports[i[1]] == "" {
				t.Errorf("%s imports %s, which is not there", name, i[1])
			}
		}
	}
	if len(m.Imports) < 8 || m.Imports["vendor/uplot.js"] == "" {
		t.Errorf("%d modules", len(m.Imports))
	}
	if strings.ContainsAny(text, "<>&") {
		t.Error("the import map could end its element")
	}
	if _, err := Inline("lib/nothing.js"); err == nil {
		t.Error("a missing module is no error")
	}
}

// Without scripts a page has the light colours where the reader wants them.
func TestStyle(t *testing.T) {
	text, err := Style()
	if err != nil || !regexp.MustCompile(`@media \(prefers-color-scheme: light\) \{ :root:not\(\[data-theme\]\) \{ color-scheme: light; --bg: #[0-9a-f]+`).MatchString(text) || !strings.Contains(text, ".u-over") {
		t.Errorf("%v, %d bytes", err, len(text))
	}
}
