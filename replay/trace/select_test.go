package trace

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wattline/meter"
)

// made is a trace of 100 sessions of three turns, a session a second.
func made() *Trace {
	t := &Trace{File: "made", BlockTokens: 16, Clock: Clock{Unit: "s", First: "0"}}
	for turn := range 3 {
		for s := range 100 {
			r := Record{
				Line: len(t.Records) + 1, Offset: time.Duration(100*turn+s) * time.Second, Input: 100 * (turn + 1), Output: 10,
				Session: s + 1, Turn: turn + 1, Parent: -1,
			}
			if turn > 0 {
				r.Parent, r.ThinkUs = len(t.Records)-100, meter.Some(5_000_000)
			}
			for k := range (r.Input + 15) / 16 {
				r.Blocks = append(r.Blocks, Block{uint32(1000*s + k + 1), uint32(min(16, r.Input-16*k))})
			}
			t.Records = append(t.Records, r)
		}
	}
	return t
}

func TestSelect(t *testing.T) {
	for _, c := range []struct {
		speed, window, sample, fit string
		context                    int
		want                       string
	}{
		{"", "", "", "", 0, "300 sent, 100 sessions, 200 children, last 4m59s in 299 s, changed 0, dropped 0, []"},
		{"10x", "", "", "", 310, "300 sent, 100 sessions, 200 children, last 4m59s in 29.9 s, changed 0, dropped 0, []"},
		{"", "50s..1m50s", "", "", 0, "60 sent, 60 sessions, 0 children, last 59s in 59 s, changed 0, dropped 0, [10 turns come at the recorded moment, because the earlier turn is not sent]"},
		{"", "..2s", "", "", 0, "2 sent, 2 sessions, 0 children, last 1s in 1 s, changed 0, dropped 0, []"},
		{"", "", "5%", "", 0, "15 sent, 5 sessions, 10 children, last 4m20s in 260 s, changed 0, dropped 0, []"},
		{"0.5", "", "", "drop", 250, "200 sent, 100 sessions, 100 children, last 3m19s in 398 s, changed 0, dropped 100, [DROPPED: 100 records need more than the context of 250 tokens]"},
		{"", "", "", "clip", 250, "300 sent, 100 sessions, 200 children, last 4m59s in 299 s, changed 100, dropped 0, [CLIPPED: 100 records need more than the context of 250 tokens]"},
	} {
		o, err := ParseOptions(c.speed, c.window, c.sample, c.fit, "")
		if err != nil {
			t.Error(err)
			continue
		}
		o.Seed = 1
		from := made()
		list, info, err := from.Select(o, c.context, 2)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		children := 0
		for i, r := range list {
			sum := 0
			for _, b := range r.Blocks {
				sum += int(b.Tokens)
			}
			if sum != r.Input || c.context > 0 && r.Input+r.Output > c.context {
				t.Errorf("%+v: a prompt of %d has blocks of %d", c, r.Input, sum)
			}
			if r.Parent >= 0 {
				children++
				if p := list[r.Parent]; r.Parent >= i || p.Session != r.Session || p.Turn != r.Turn-1 {
					t.Errorf("%+v: session %d turn %d continues %d %d", c, r.Session, r.Turn, p.Session, p.Turn)
				}
			} else if r.ThinkUs.Valid {
				t.Errorf("%+v: a think time without a parent", c)
			}
		}
		sent := Trace{Records: list}
		got := fmt.Sprintf("%d sent, %d sessions, %d children, last %v in %g s, changed %d, dropped %d, %v", info.Sent, sent.Sessions(), children, sent.Span(), info.Lasts.V, info.Changed, info.Dropped, info.Notes)
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
		if from.Records[299].Offset != 299*time.Second || from.Records[299].Input != 300 || from.Records[299].Parent != 199 {
			t.Errorf("%+v: the trace itself was changed", c)
		}
	}
}

// TestRefusals: what cannot be sent as asked is refused with a sentence.
func TestRefusals(t *testing.T) {
	if _, _, err := made().Select(Options{}, 250, 0); err == nil || !strings.Contains(err.Error(), "100 records need more than the server's context of 250 tokens a slot (line 201: 300 tokens in and 10 out): give --fit-context drop or clip") {
		t.Errorf("longer than the context: %v", err)
	}
	if _, _, err := made().Select(Options{Fit: Drop}, 20, 0); err == nil || !strings.Contains(err.Error(), "every record needs more") {
		t.Errorf("all longer: %v", err)
	}
	if _, _, err := made().Select(Options{From: time.Hour}, 0, 0); err == nil || !strings.Contains(err.Error(), "no record of made lies in --window") {
		t.Errorf("an empty window: %v", err)
	}
	slow := made()
	slow.Records[len(slow.Records)-1].Offset = 40 * 24 * time.Hour
	if _, _, err := slow.Select(Options{Speed: 0.01}, 0, 0); err == nil || !strings.Contains(err.Error(), "at --speed 0.01x it takes 4000 days") {
		t.Errorf("a slow one: %v", err)
	}
	for _, c := range [][5]string{
		{"fast"}, {"-1"}, {"1e-12"}, {"1e9x"}, {"0x"}, {"Inf"}, {"NaN"}, {"", "10m"}, {"", "10m..5m"}, {"", "x..y"}, {"", "-5m..5m"}, {"", "", "0%"}, {"", "", "101%"}, {"", "", "some"}, {"", "", "NaN"},
		{"", "", "", "stretch"}, {"", "", "", "", "fake"},
	} {
		if _, err := ParseOptions(c[0], c[1], c[2], c[3], c[4]); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), ": write ") {
			t.Errorf("%q: %v", c, err)
		}
	}
}

// TestShortPrompts: a prompt shorter than what the server puts in front is lengthened, and that is said.
func TestShortPrompts(t *testing.T) {
	from := &Trace{File: "short", Records: []Record{{Input: 1, Output: 1, Parent: -1}, {Input: 5, Output: 1, Parent: -1}}}
	list, info, err := from.Select(Options{}, 0, 2)
	if err != nil || list[0].Input != 3 || list[1].Input != 5 || info.Changed != 1 || fmt.Sprint(info.Notes) != "[1 prompt was lengthened to 3 tokens, because the server puts 2 of its own in front]" {
		t.Errorf("%+v %+v %v", list, info, err)
	}
}

// TestOwnBlocks: prompts without blocks share nothing, but a turn with its earlier turns.
func TestOwnBlocks(t *testing.T) {
	from := &Trace{File: "plain", Records: []Record{
		{Input: 10, Output: 5, Session: 1, Parent: -1}, {Input: 10, Output: 5, Parent: -1}, {Input: 20, Output: 5, Session: 1, Parent: 0}, {Input: 12, Output: 5, Session: 1, Parent: 2},
	}}
	list, _, err := from.Select(Options{}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, r := range list {
		got += fmt.Sprint(r.Blocks)
	}
	if got != "[{1 10}][{2 10}][{1 20}][{4 12}]" {
		t.Errorf("blocks %s", got)
	}
	if !Continues(&list[0], &list[2]) || Continues(&list[2], &list[3]) || Continues(&list[1], &list[2]) {
		t.Error("what continues what")
	}
}
