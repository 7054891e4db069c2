package trace

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"wattline/meter"
)

// Version is the version of wattline's own format.
const Version = 1

// Manifest is the first line of wattline's own format.
type Manifest struct {
	Version     int    `json:"wattline_trace"`
	MadeBy      string `json:"made_by,omitempty"` // "wattline v1.2"
	BlockTokens int    `json:"block_tokens"`      // 0: no blocks
	Records     int    `json:"records"`           // lines that follow
	Sessions    int    `json:"sessions"`
	SpanUs      int64  `json:"span_us"` // from the first record to the last
	// Contains and Omits say in words what is in the file and what is not.
	Contains []string `json:"contains,omitempty"`
	Omits    []string `json:"omits,omitempty"`
	// LeftOut counts the recorded requests that are not in the file, by reason.
	LeftOut map[string]int `json:"left_out,omitempty"`
	// Recorded are facts of the server that answered: build, model, slots, context.
	Recorded map[string]string `json:"recorded,omitempty"`
}

// line is a record as it is written.
type line struct {
	AtUs   int64 `json:"at_us"`
	Input  int   `json:"in"`
	Output int   `json:"out"`
	// Blocks are ids. Sizes are their tokens; left out where each has block_tokens and the last what remains.
	Blocks  []uint32 `json:"blocks,omitempty"`
	Sizes   []uint32 `json:"sizes,omitempty"`
	Session int      `json:"session,omitempty"`
	Turn    int      `json:"turn,omitempty"`
	// Parent is the number of the record that this one continues; the first record has number 1.
	Parent   int       `json:"parent,omitempty"`
	Reply    meter.Int `json:"reply,omitzero"` // of the parent's reply
	ThinkUs  meter.Int `json:"think_us,omitzero"`
	CancelUs meter.Int `json:"cancel_us,omitzero"`
	Stream   *bool     `json:"stream,omitempty"` // left out: true
	Tools    meter.Int `json:"tools,omitzero"`
	Observed *Observed `json:"observed,omitempty"`
}

// Write writes records in wattline's own format. Version, BlockTokens, Records, Sessions and SpanUs of the manifest follow
// from the trace. Records are in the order of Offset.
func Write(w io.Writer, m Manifest, t *Trace) error {
	m.Version, m.BlockTokens, m.Records, m.Sessions, m.SpanUs = Version, t.BlockTokens, len(t.Records), t.Sessions(), t.Span().Microseconds()
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	for i := range t.Records {
		if err := enc.Encode(t.Records[i].line(t.BlockTokens)); err != nil {
			return fmt.Errorf("trace: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	return nil
}

func (r *Record) line(blockTokens int) *line {
	l := &line{
		AtUs: r.Offset.Microseconds(), Input: r.Input, Output: r.Output, Session: r.Session, Turn: r.Turn, Parent: r.Parent + 1, Reply: r.ReplyTokens,
		ThinkUs: r.ThinkUs, CancelUs: r.CancelUs, Tools: r.Tools, Observed: r.Observed,
	}
	if r.Unstreamed {
		l.Stream = new(bool)
	}
	regular := true
	for i, b := range r.Blocks {
		l.Blocks, l.Sizes = append(l.Blocks, b.ID), append(l.Sizes, b.Tokens)
		regular = regular && int(b.Tokens) == min(blockTokens, r.Input-i*blockTokens)
	}
	if regular {
		l.Sizes = nil
	}
	return l
}

// readWattline reads wattline's own format.
func (t *Trace) readWattline(lines *lineReader) error {
	m := &Manifest{}
	if err := json.Unmarshal(lines.text, m); err != nil {
		return fmt.Errorf("line 1 is no manifest of a trace: %s", jsonError(err))
	}
	if m.Version != Version {
		return fmt.Errorf("it is a trace of version %d, and this wattline reads version %d: export it again, or read it with another wattline", m.Version, Version)
	}
	t.Manifest, t.BlockTokens, t.Clock = m, m.BlockTokens, Clock{Unit: "us", First: "0"}
	if m.BlockTokens < 0 || m.BlockTokens > maxTokens {
		return fmt.Errorf("its manifest has blocks of %d tokens: export it again", m.BlockTokens)
	}
	for lines.next() {
		var l line
		if err := json.Unmarshal(lines.text, &l); err != nil {
			return lines.errorf("is no record: %s", jsonError(err))
		}
		r, err := l.record(t, lines.n)
		if err != nil {
			return lines.errorf("%s", err)
		}
		if ok, err := t.possible(r); err != nil {
			return err
		} else if !ok { // a later record may continue it
			return lines.errorf("has no prompt or no reply: export the trace again")
		}
		if err := t.room(len(t.Records)); err != nil {
			return err
		}
		t.Records = append(t.Records, *r)
	}
	if lines.err == nil && len(t.Records) != m.Records {
		return fmt.Errorf("it has %d records, and its first line says %d: the file is cut off or was edited", len(t.Records), m.Records)
	}
	return lines.err
}

func (l *line) record(t *Trace, n int) (*Record, error) {
	r := &Record{
		Line: n, Offset: time.Duration(l.AtUs) * time.Microsecond, Input: l.Input, Output: l.Output, Session: l.Session, Turn: l.Turn,
		Parent: l.Parent - 1, ReplyTokens: l.Reply, ThinkUs: l.ThinkUs, CancelUs: l.CancelUs, Unstreamed: l.Stream != nil && !*l.Stream, Tools: l.Tools, Observed: l.Observed,
	}
	switch before := t.Records; {
	case l.Parent < 0 || l.Parent > len(before):
		return nil, fmt.Errorf("continues record %d, which does not stand before it", l.Parent)
	case l.Reply.V < 0 || l.Reply.V > 0 && l.Parent == 0:
		return nil, errors.New("repeats a reply that it does not continue")
	case l.AtUs < 0 || l.AtUs > (10*twoClocks).Microseconds():
		return nil, fmt.Errorf("has the time at_us %d, which is not between 0 and ten years: the file is damaged", l.AtUs)
	case len(l.Sizes) > 0 && len(l.Sizes) != len(l.Blocks):
		return nil, fmt.Errorf("has %d blocks and %d sizes", len(l.Blocks), len(l.Sizes))
	}
	for name, us := range map[string]meter.Int{"think_us": l.ThinkUs, "cancel_us": l.CancelUs} {
		if _, err := period(name, float64(us.V), time.Microsecond); err != nil {
			return nil, err
		}
	}
	if len(l.Sizes) == 0 {
		r.Blocks = regularBlocks(l.Blocks, l.Input, t.BlockTokens)
		if r.Blocks == nil && len(l.Blocks) > 0 {
			return nil, fmt.Errorf("has %d blocks of %d tokens for a prompt of %d", len(l.Blocks), t.BlockTokens, l.Input)
		}
		return r, nil
	}
	sum := 0
	for i, id := range l.Blocks {
		r.Blocks = append(r.Blocks, Block{id, l.Sizes[i]})
		sum += int(l.Sizes[i])
	}
	if sum != l.Input {
		return nil, fmt.Errorf("has blocks of %d tokens together for a prompt of %d", sum, l.Input)
	}
	return r, nil
}

// regularBlocks gives each block size tokens and the last what remains; nil where their number does not fit the prompt.
func regularBlocks(ids []uint32, input, size int) []Block {
	if size <= 0 || len(ids) == 0 || len(ids) != (input+size-1)/size {
		return nil
	}
	out := make([]Block, len(ids))
	for i, id := range ids {
		out[i] = Block{id, uint32(min(size, input-i*size))} //nolint:gosec // size and input are at most maxTokens
	}
	return out
}
