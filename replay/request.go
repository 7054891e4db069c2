package replay

import (
	"encoding/json"
	"time"

	"wattline/meter"
)

// Request is one request to be sent.
type Request struct {
	Key
	Warmup      bool
	Cell        Cell
	Prompt      string          // the user message
	Messages    json.RawMessage // instead of Prompt: all messages, as a dataset has them
	Raw         *RawPrompt      // instead of both: for the endpoint that applies no template
	Cache       Cache
	Forced      bool // exactly Cell.OutputTokens
	Seed        uint32
	ScheduledAt time.Time // open loop; zero in a closed one

	// Body, if not nil, is what is sent: made beforehand, so that a long prompt is not late.
	Body []byte

	// The following are a trace's.
	ShiftUs     meter.Int     // ScheduledAt minus the trace's own moment
	Unstreamed  bool          // the reply comes in one piece
	CancelAfter time.Duration // after the send the client leaves; 0: it does not
	KeepReply   bool          // Exchange.Reply is wanted
}

// RawPrompt is a prompt without a template: a text, and tokens behind it.
type RawPrompt struct {
	Text   string
	Tokens []int
}

// Token is one token of a text.
type Token struct {
	ID    int
	Piece string // its bytes in the text
}

// Server holds what a server says about itself. Two of them are equal exactly if nothing changed.
type Server struct {
	Endpoint      string `json:"endpoint"`
	Build         string `json:"build"`
	Model         string `json:"model"`
	ModelPath     string `json:"model_path"`
	Quantisation  string `json:"quantisation"`
	Params        int64  `json:"params"`      // 0: not said
	ModelBytes    int64  `json:"model_bytes"` // 0: not said
	ContextTokens int    `json:"context_tokens"`
	Slots         int    `json:"slots"`
}
