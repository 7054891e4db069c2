package meter

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// eventLog collects events as the framer gives them.
type eventLog struct {
	now    []byte
	events []string
}

func (l *eventLog) data(p []byte) { l.now = append(l.now, p...) }
func (l *eventLog) event() {
	l.events = append(l.events, string(l.now))
	l.now = l.now[:0]
}

// framed runs the framer over a stream in pieces of the lengths in cuts, used in a cycle.
func framed(stream, cuts []byte) (events []string, pings int64, unfinished bool) {
	l := &eventLog{}
	s := &sse{to: l}
	for i := 0; len(stream) > 0; i++ {
		n := len(stream)
		if len(cuts) > 0 {
			n = min(n, int(cuts[i%len(cuts)])%13+1)
		}
		s.feed(stream[:n])
		stream = stream[n:]
	}
	return l.events, s.pings, s.unfinished()
}

// specified is the standard's own description, run over the whole stream: the reference.
func specified(stream []byte) (events []string) {
	text := string(bytes.TrimPrefix(stream, []byte(byteOrderMark)))
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	lines := strings.Split(text, "\n")
	lines = lines[:len(lines)-1] // what follows the last line end is not a line
	var data strings.Builder
	failing := false // not of the standard: an error is one without data too, and a field of that name is data
	for _, line := range lines {
		if line == "" {
			if data.Len() > 0 || failing {
				events = append(events, strings.TrimSuffix(data.String(), "\n"))
			}
			data.Reset()
			failing = false
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		failing = failing || name == "error" || name == "event" && strings.TrimPrefix(value, " ") == "error"
		if name == "data" || name == "error" {
			data.WriteString(strings.TrimPrefix(value, " ") + "\n")
		}
	}
	return events
}

func TestEventStream(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		want         []string
		pings        int64
		unfinished   bool
	}{
		{"LF", "data: a\n\ndata: b\n\n", []string{"a", "b"}, 0, false},
		{"CR", "data: a\r\rdata: b\r\r", []string{"a", "b"}, 0, false},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}, 0, false},
		{"mixed", "data: a\r\n\ndata: b\n\r", []string{"a", "b"}, 0, false},
		{"BOM", "\xEF\xBB\xBFdata: a\n\n", []string{"a"}, 0, false},
		{"BOM twice", "\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n", nil, 0, false},
		{"part of a BOM", "\xEF\xBBdata: a\n\ndata: b\n\n", []string{"b"}, 0, false},
		{"no space", "data:a\n\n", []string{"a"}, 0, false},
		{"two spaces", "data:  a\n\n", []string{" a"}, 0, false},
		{"several lines", "data: a\ndata: b\n\n", []string{"a\nb"}, 0, false},
		{"no colon", "data\n\ndata\ndata\n\n", []string{"", "\n"}, 0, false},
		{"other fields", "event: x\nid: 1\nretry: 5\ndata: a\ndatum: b\ndat: c\ndataa: d\n\n", []string{"a"}, 0, false},
		{"field without data", "event: x\n\n", nil, 0, false},
		{"comments", ": ping\n\n:\ndata: a\n: b\n\n", []string{"a"}, 3, false},
		{"unfinished", "data: a\n\ndata: b\n", []string{"a"}, 0, true},
		{"unfinished line", "data: a\n\ndata: b", []string{"a"}, 0, true},
		{"comment at the end", "data: a\n\n: bye", []string{"a"}, 1, false},
		{"colon in value", "data: a:b: c\n\n", []string{"a:b: c"}, 0, false},
	} {
		for cut := range 5 { // 0: whole
			var cuts []byte
			if cut > 0 {
				cuts = []byte{byte(cut - 1)}
			}
			got, pings, unfinished := framed([]byte(c.stream), cuts)
			if !slices.Equal(got, c.want) || pings != c.pings || unfinished != c.unfinished {
				t.Errorf("%s, cut by %d: %q, %d pings, unfinished %v; want %q, %d, %v", c.name, cut, got, pings, unfinished, c.want, c.pings, c.unfinished)
			}
		}
	}
}

// FuzzEventStream compares the framer, fed in pieces, with the standard's wording run over the whole.
func FuzzEventStream(f *testing.F) {
	for _, s := range []string{
		"data: a\n\ndata: b\r\n\r\n", "\xEF\xBB\xBF: c\rdata:x\r\r", "data\n\nda\nta: 1\n\n", "\r\n\r\n\ndata: \r\ndata:\n\n", "\xEFdata: a\n\n",
		"event: e\ndata: {\"a\":1}\nid: 3\n\ndata: [DONE]\n\n",
	} {
		f.Add([]byte(s), []byte{0})
		f.Add([]byte(s), []byte{3, 0, 7})
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		got, _, _ := framed(stream, cuts)
		if want := specified(stream); !slices.Equal(got, want) {
			t.Fatalf("%q cut by %v gives %q, want %q", stream, cuts, got, want)
		}
	})
}
