// Package trace reads recorded workloads that hold no text: when requests came, how long their prompts and replies were,
// which blocks of tokens their prompts share, and which requests belong to one session.
//
// [Read] finds the format by the file's content: Mooncake, Bailian, Azure, BurstGPT, Weka, or wattline's own, which [Write] writes.
// [Trace.Select] applies speed, window, sample and context. Package load sends the records; TRACES.md describes the formats.
package trace

import (
	"fmt"
	"time"

	"wattline/meter"
)

// Trace is a recorded workload.
type Trace struct {
	File   string `json:"file"` // its name without the folder
	SHA256 string `json:"sha256"`
	Format string `json:"format"`
	Clock  Clock  `json:"clock"`
	// BlockTokens is how many tokens a block has, but for the last of a prompt; 0: prompts have no blocks.
	BlockTokens int `json:"block_tokens"`
	// Impossible are the lines that were left out, by reason.
	Impossible []Impossible `json:"impossible,omitempty"`
	Manifest   *Manifest    `json:"manifest,omitempty"` // of wattline's own format
	Notes      []string     `json:"notes,omitempty"`    // how it was read

	Records []Record `json:"-"` // in the order of Offset

	most int // records that may be read
}

// Clock is how the file says when a request came. The first record's time is the origin of all offsets.
type Clock struct {
	Unit     string `json:"unit"` // "date", "s", "ms", "us" or "ns"
	Absolute bool   `json:"absolute"`
	First    string `json:"first"` // the first record's time as it stands in the file
}

// Impossible counts the lines that were left out for one reason.
type Impossible struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
	Lines  []int  `json:"lines"` // the first ones
}

// Record is one request.
type Record struct {
	Line   int           // where it stands in the file, from 1
	Offset time.Duration // after the trace's first record
	Input  int           // tokens of the prompt, 1 or more
	Output int           // tokens of the reply, 1 or more
	Blocks []Block       // the prompt from its beginning; together they have Input tokens. nil: not known

	Session int // from 1; 0: none
	Turn    int // in its session, from 1; 0: none
	// Parent is the index of the record whose prompt and reply this prompt continues, -1 if there is none. It stands before
	// this record, and this one is not sent before the parent's reply has ended.
	Parent int
	// ReplyTokens is how many tokens of the parent's reply stand behind the parent's prompt as they were generated; null: all.
	// A template may leave out reasoning, or write a call of a tool otherwise.
	ReplyTokens meter.Int
	// ThinkUs is the time from the end of the parent's reply until this request was sent.
	ThinkUs meter.Int
	// CancelUs is how long after it was sent the client left.
	CancelUs meter.Int

	Unstreamed bool      // the client asked for the reply in one piece
	Tools      meter.Int // how many tools the request had
	Observed   *Observed // nil: the trace has no measurements
}

// Block is a part of a prompt. Blocks with the same ID have the same tokens; one with fewer tokens is the other's beginning.
type Block struct {
	ID     uint32
	Tokens uint32
}

// Observed is what was measured of a request when it was recorded; null: not obtained.
type Observed struct {
	CachedTokens    meter.Int `json:"cached_tokens,omitzero"` // prompt tokens that the server reused
	ReasoningTokens meter.Int `json:"reasoning_tokens,omitzero"`
	QueueUs         meter.Int `json:"queue_us,omitzero"`
	TTFTUs          meter.Int `json:"ttft_us,omitzero"`
	PrefillUs       meter.Int `json:"prefill_us,omitzero"`
	DecodeUs        meter.Int `json:"decode_us,omitzero"`
	DurationUs      meter.Int `json:"duration_us,omitzero"`
	GPUUj           meter.Int `json:"gpu_uj,omitzero"`
	GPUActiveUj     meter.Int `json:"gpu_active_uj,omitzero"`
	GPUSigmaUj      meter.Int `json:"gpu_sigma_uj,omitzero"`
	EnergyQuality   string    `json:"energy_quality,omitempty"`
}

// Sessions is how many sessions the trace has; a record without one is a session of its own.
func (t *Trace) Sessions() int {
	seen := map[int]bool{}
	n := 0
	for i := range t.Records {
		if s := t.Records[i].Session; s == 0 {
			n++
		} else {
			seen[s] = true
		}
	}
	return n + len(seen)
}

// Span is the time from the first record to the last.
func (t *Trace) Span() time.Duration {
	if len(t.Records) == 0 {
		return 0
	}
	return t.Records[len(t.Records)-1].Offset
}

// maxNamed is how many lines are named for each reason.
const maxNamed = 5

// leaveOut counts an impossible line.
func (t *Trace) leaveOut(line int, reason string) {
	for i := range t.Impossible {
		if p := &t.Impossible[i]; p.Reason == reason {
			p.Count++
			if len(p.Lines) < maxNamed {
				p.Lines = append(p.Lines, line)
			}
			return
		}
	}
	t.Impossible = append(t.Impossible, Impossible{reason, 1, []int{line}})
}

// room is an error where n records are as many as may be read.
func (t *Trace) room(n int) error {
	if n >= t.most {
		return fmt.Errorf("it has more than %d records, which are the limit: cut it into pieces", t.most)
	}
	return nil
}

// possible reports whether a record can be sent. It counts one that cannot; a negative length is an error.
func (t *Trace) possible(r *Record) (bool, error) {
	switch {
	case r.Input < 0 || r.Output < 0:
		return false, fmt.Errorf("line %d has a negative length (%d tokens in, %d out): the file is damaged, or its columns are others", r.Line, r.Input, r.Output)
	case r.Input > maxTokens || r.Output > maxTokens:
		return false, fmt.Errorf("line %d has a length beyond %d tokens (%d in, %d out): the file is damaged, or its columns are others", r.Line, maxTokens, r.Input, r.Output)
	case r.Output == 0:
		t.leaveOut(r.Line, "without a reply (0 tokens)")
	case r.Input == 0:
		t.leaveOut(r.Line, "without a prompt (0 tokens)")
	default:
		return true, nil
	}
	return false, nil
}
