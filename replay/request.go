package replay

import (
	"encoding/json"
	"time"
)

// Request is one request to be sent.
type Request struct {
	Key
	Warmup      bool
	Cell        Cell
	Prompt      string          // the user message
	Messages    json.RawMessage // instead of Prompt: all messages, as a dataset has them
	Cache       Cache
	Forced      bool // exactly Cell.OutputTokens
	Seed        uint32
	ScheduledAt time.Time // open loop; zero in a closed one
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
