package llama

import (
	"encoding/json"
	"errors"
	"fmt"

	"wattline/meter"
)

// Slot is one slot as the server shows it at a moment.
type Slot struct {
	ID   int
	Busy bool

	// What follows is told of a busy slot only.
	Task      meter.Int // number of its task; later tasks have greater ones
	Streams   meter.Int // 1 where its reply is a stream
	MaxTokens meter.Int
	Prompt    meter.Int // tokens of its prompt
	Decoded   int64     // tokens generated so far
}

// ErrForeign: what answers is no llama-server that shows its slots.
var ErrForeign = errors.New("slots: the upstream does not show its slots as llama-server does")

// slotJSON is a slot on the wire: llama-server's tools/server, server_slot::to_json.
type slotJSON struct {
	ID     *int   `json:"id"`
	Busy   *bool  `json:"is_processing"`
	Task   *int64 `json:"id_task"`
	Prompt *int64 `json:"n_prompt_tokens"`
	Params struct {
		Streams   *bool  `json:"stream"`
		MaxTokens *int64 `json:"max_tokens"`
		Predict   *int64 `json:"n_predict"`
	} `json:"params"`
	Next json.RawMessage `json:"next_token"` // an object; a list of one since 2025
}

type nextJSON struct {
	Decoded int64 `json:"n_decoded"`
}

// Parse reads a reply's body.
func Parse(body []byte) ([]Slot, error) {
	var wire []slotJSON
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	out := make([]Slot, 0, len(wire))
	for i := range wire {
		w := &wire[i]
		if w.ID == nil || w.Busy == nil || *w.ID < 0 {
			return nil, fmt.Errorf("%w: slot %d has no id or no is_processing", ErrForeign, i)
		}
		s := Slot{ID: *w.ID, Busy: *w.Busy, Task: number(w.Task), Prompt: number(w.Prompt), Decoded: decoded(w.Next)}
		if w.Params.Streams != nil {
			s.Streams = meter.Some(0)
			if *w.Params.Streams {
				s.Streams = meter.Some(1)
			}
		}
		if s.MaxTokens = number(w.Params.MaxTokens); !s.MaxTokens.Valid {
			s.MaxTokens = number(w.Params.Predict)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: it lists none", ErrForeign)
	}
	return out, nil
}

func number(v *int64) meter.Int {
	if v == nil {
		return meter.Int{}
	}
	return meter.Some(*v)
}

func decoded(next json.RawMessage) int64 {
	var list []nextJSON
	if json.Unmarshal(next, &list) == nil && len(list) > 0 {
		return list[0].Decoded
	}
	var one nextJSON
	if json.Unmarshal(next, &one) != nil {
		return 0
	}
	return one.Decoded
}
