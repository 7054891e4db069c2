package llama

import (
	"bytes"
	"strings"
	"testing"
)

func TestTail(t *testing.T) {
	var log tail
	for range 100 {
		if n, err := log.Write(bytes.Repeat([]byte("x"), tailBytes/10)); err != nil || n != tailBytes/10 {
			t.Fatal(n, err)
		}
	}
	_, _ = log.Write([]byte("the end"))
	if kept := log.String(); len(kept) < tailBytes || len(kept) > 2*tailBytes || !strings.HasSuffix(kept, "xthe end") {
		t.Errorf("%d bytes are kept, ending with %q", len(kept), kept[len(kept)-10:])
	}
}

func TestLastLines(t *testing.T) {
	if got := strings.Join(lastLines("a\n\nb\r\nc\n\n", 2), "|"); got != "b|c" {
		t.Errorf("the last two lines are %q", got)
	}
	if got := indent(lastLines("\n\n", 2)); got != "" {
		t.Errorf("no lines give %q", got)
	}
}
