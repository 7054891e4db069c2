package replay

import (
	"fmt"
)

// Recording says which part of a trace a plan sends, and how. The trace's requests are not in it.
type Recording struct {
	File        string `json:"file"` // its name without the folder
	SHA256      string `json:"sha256"`
	Format      string `json:"format"`
	Clock       string `json:"clock"`        // in words
	BlockTokens int    `json:"block_tokens"` // 0: its prompts have no blocks
	Records     int    `json:"records"`      // that can be sent
	Sessions    int    `json:"sessions"`
	SpanS       Num    `json:"span_s"` // from the first record to the last
	// LeftOut names the lines that cannot be sent.
	LeftOut []string `json:"left_out,omitempty"`
	// Measured: the trace says what was measured when it was recorded, so that a run of it can be proven.
	Measured bool `json:"measured,omitempty"`

	Speed    float64 `json:"speed"`
	FromS    Num     `json:"from_s"` // of the window; null: the whole trace
	ToS      Num     `json:"to_s"`
	Sample   float64 `json:"sample"` // share of the sessions
	Fit      string  `json:"fit_context,omitempty"`
	Replies  string  `json:"replies"`  // "recorded" or "real"
	Sent     int     `json:"sent"`     // records that are sent
	Lasts    Num     `json:"lasts_s"`  // from the first sent record to the last, at Speed
	Changed  int     `json:"changed"`  // records whose sizes are not the trace's
	Dropped  int     `json:"dropped"`  // records that do not fit the context
	Salt     uint64  `json:"salt"`     // of the texts: two runs have none in common
	NotChild int     `json:"restarts"` // turns whose earlier turn is not sent; they come at the recorded moment

	Notes []string `json:"notes,omitempty"` // all that was changed, in words
	// LargestTokens is the largest sum of prompt and reply.
	LargestTokens int `json:"largest_tokens"`
}

// Replies of earlier turns in a prompt.
const (
	RecordedReplies = "recorded" // a stand-in of the recorded length
	RealReplies     = "real"     // the tokens that the server really gave
)

// CompileRecording lays out a completed Spec that sends a recording. The plan has one cell, with the means of the sizes.
func CompileRecording(s Spec, r *Recording, mean Cell) (*Plan, error) {
	p := &Plan{Spec: s, Corpus: r.SHA256, Recording: r, Cells: []Cell{mean}}
	p.Spec.Requests = r.Sent
	return p, p.finishRecording()
}

func (p *Plan) finishRecording() error {
	r := *p.Recording
	r.Salt = 0
	return p.finish(fmt.Sprintf("%+v", r), []Cell{{Task: r.File}})
}
