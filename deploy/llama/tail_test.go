package llama

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

type brokenLog struct{}

func (brokenLog) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestTailKeepsTheEnd(t *testing.T) {
	var all bytes.Buffer
	log := newTail(&all)
	for range 100 {
		if n, err := log.Write(bytes.Repeat([]byte("x"), tailBytes/10)); err != nil || n != tailBytes/10 {
			t.Fatal(n, err)
		}
	}
	_, _ = log.Write([]byte("the end"))
	if kept := log.String(); len(kept) < tailBytes || len(kept) > 2*tailBytes || !strings.HasSuffix(kept, "xthe end") {
		t.Errorf("%d bytes are kept, ending with %q", len(kept), kept[len(kept)-10:])
	}
	if all.Len() != 100*(tailBytes/10)+len("the end") {
		t.Errorf("%d bytes were passed on", all.Len())
	}
}

func TestABrokenLogDoesNotEndTheServer(t *testing.T) {
	if n, err := newTail(brokenLog{}).Write([]byte("line")); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
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
