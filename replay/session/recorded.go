package session

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/load"
	"wattline/replay/prompt"
	"wattline/replay/trace"
	"wattline/replay/twin"
)

// recorded is a trace that is sent: its records, and the texts of its blocks.
type recorded struct {
	records []trace.Record
	info    *replay.Recording
	blocks  *prompt.Blocks
	seed    uint64
	sample  uint64 // the seed that chose the records
}

// compileTrace chooses the records of the trace that are sent, and makes the plan.
func (s *Session) compileTrace(ctx context.Context, spec replay.Spec) (*replay.Plan, error) {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, s.runID, s.salts) // never fails
	salt := h.Sum64()                      // a run's texts are not in the server's cache yet
	s.salts++
	s.cfg.Say("%s: asking the server's tokenizer for words of one token each", s.cfg.Trace.File)
	blocks, err := prompt.FindBlocks(ctx, s.Client, salt)
	if err != nil {
		return nil, err
	}
	o := s.cfg.TraceOptions
	o.Seed = spec.Seed
	if s.recorded != nil { // all points of a sweep send the same sample
		o.Seed = s.recorded.sample
	}
	records, info, err := s.cfg.Trace.Select(o, s.Server.ContextTokens, blocks.Lead())
	if err != nil {
		return nil, &SettingError{err}
	}
	info.Salt = salt
	s.recorded = &recorded{records, info, blocks, spec.Seed, o.Seed}
	s.cfg.Say("%s: %d of %d records in %d sessions, format %s, %s, %v from the first to the last", info.File, info.Sent, info.Records, info.Sessions, info.Format, info.Clock, s.cfg.Trace.Span())
	for _, list := range [][]string{info.LeftOut, info.Notes} {
		for _, note := range list {
			s.cfg.Say("%s: %s", info.File, note)
		}
	}
	in, out := 0, 0
	for i := range records {
		in, out = in+records[i].Input, out+records[i].Output
	}
	return replay.CompileRecording(spec, info, replay.Cell{Task: info.File, PromptTokens: max(1, in/len(records)), OutputTokens: max(1, out/len(records))})
}

// loadRecording is what the load generator sends.
func (t *recorded) loadRecording(most int) *load.Recording {
	return &load.Recording{Records: t.records, Speed: t.info.Speed, Most: most, Make: t.make, WarmUp: t.warmUp}
}

// make makes a record's request.
func (t *recorded) make(i int, before *load.Sent) *replay.Request {
	r := &t.records[i]
	req := &replay.Request{
		Key: replay.Key{Index: i}, Cell: replay.Cell{Task: t.info.File, PromptTokens: r.Input, OutputTokens: r.Output},
		Cache: replay.Natural, Forced: true, Seed: uint32(t.seed + uint64(i)), //nolint:gosec // only a seed
		Unstreamed: r.Unstreamed, KeepReply: t.info.Replies == replay.RealReplies,
	}
	if r.CancelUs.Valid {
		req.CancelAfter = max(1, time.Duration(r.CancelUs.V)*time.Microsecond) // the server's own pace is not the trace's
	}
	if before != nil && t.info.Replies == replay.RealReplies {
		p := &t.records[before.Request.Index]
		n := r.Repeats(p)
		if got := before.Exchange; len(got.Reply) >= n && trace.Continues(p, r) {
			raw := before.Request.Raw
			known := p.Input + n
			tokens := make([]int, 0, len(raw.Tokens)+r.Input-p.Input)
			tokens = append(append(append(tokens, raw.Tokens...), got.Reply[:n]...), t.blocks.IDs(parts(r, known-t.blocks.Lead(), r.Input-t.blocks.Lead()))...)
			req.Raw = &replay.RawPrompt{Text: raw.Text, Tokens: tokens}
			return req
		}
	}
	req.Raw = &replay.RawPrompt{Text: t.blocks.Text(parts(r, 0, r.Input-t.blocks.Lead()))}
	return req
}

// parts are the blocks of a record's prompt from one token to another.
func parts(r *trace.Record, from, to int) (out []prompt.Part) {
	at := 0
	for _, b := range r.Blocks {
		begin, end := max(from-at, 0), min(to-at, int(b.Tokens))
		if begin < end {
			out = append(out, prompt.Part{Block: b.ID, From: begin, Tokens: end - begin})
		}
		at += int(b.Tokens)
	}
	return out
}

// warmUp is a prompt that begins like no other.
func (t *recorded) warmUp(tokens, nth int) *replay.RawPrompt {
	block := ^uint32(nth) //nolint:gosec // few; the trace's blocks count from 1
	return &replay.RawPrompt{Text: t.blocks.Text([]prompt.Part{{Block: block, Tokens: max(1, tokens-t.blocks.Lead())}})}
}

// Proof compares a run of a trace with what the trace observed; nil where the session sent none, or it observed nothing.
// Settings are the server's flags that may be shown, nil where they are not known.
func (s *Session) Proof(run *replay.Run, settings map[string]string) *twin.Proof {
	if s.recorded == nil || s.cfg.Trace.Manifest == nil || !s.recorded.info.Measured {
		return nil
	}
	hasBlocks := map[int]bool{} // by line: others got one block of their own to be sent
	for i := range s.cfg.Trace.Records {
		r := &s.cfg.Trace.Records[i]
		hasBlocks[r.Line] = r.Blocks != nil
	}
	t := *s.cfg.Trace
	t.Records = slices.Clone(s.recorded.records)
	for i := range t.Records {
		if r := &t.Records[i]; !hasBlocks[r.Line] {
			r.Blocks = nil
		}
	}
	var facts map[string]string
	if v := s.Server; v != nil {
		facts = twin.Facts(v.Build, v.Quantisation, known(v.ContextTokens), known(v.Slots), settings)
	}
	var failed []string
	for _, c := range run.Check() {
		if c.State == replay.Failed {
			failed = append(failed, c.Name+": "+c.Detail)
		}
	}
	p := twin.Prove(&t, run.Rows(), facts, failed...)
	p.Run = twin.RunOf(run)
	return p
}

// known is a count that a server told; 0: it did not.
func known(n int) meter.Int { return meter.Int{V: int64(n), Valid: n > 0} }
